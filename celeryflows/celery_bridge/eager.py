"""`task_always_eager`: a run in place on a store in memory. Sleeps end at once; waits see what was sent or time out."""

from collections.abc import Callable, Sequence

from celeryflows.clock import Clock, TurnedClock
from celeryflows.engine.closing import close_due
from celeryflows.engine.resume import wake_branches, wake_due
from celeryflows.engine.runtime import Dispatcher, Runtime
from celeryflows.engine.starting import Call, start
from celeryflows.engine.throttling import let_in_due
from celeryflows.engine.turn import NOT_CLAIMED, TurnEnd, take_turn
from celeryflows.errors import FlowsError
from celeryflows.model.runs import Delivery
from celeryflows.scheduler.inline import InlineDispatcher
from celeryflows.store.database import Store

WAKES_BOUND = 10_000


class EagerDispatcher(InlineDispatcher):
    """Runs what is sent at once, in place."""

    def __init__(self, settle: Callable[[], None]) -> None:
        super().__init__()
        self._settle = settle

    def send_runs(self, deliveries: Sequence[Delivery]) -> None:
        """Take the turns, and those that follow."""
        super().send_runs(deliveries)
        self._settle()


class EagerWorld:
    """The runs of one process in eager mode."""

    def __init__(self, runtime_on: Callable[[Store, Dispatcher, Clock], Runtime]) -> None:
        self._clock = TurnedClock()
        self._dispatcher = EagerDispatcher(self._settle)
        self._ends: dict[str, TurnEnd] = {}
        self._settling = False
        store = Store("sqlite://", clock=self._clock)
        store.prepare()
        self.runtime = runtime_on(store, self._dispatcher, self._clock)

    def run(self, call: Call) -> TurnEnd:
        """Run to the end, and what it started too; how it ended. A call inside a run's step runs inside it."""
        outer, self._settling = self._settling, False
        try:
            run_id = start(self.runtime, call)
            self._settle()
        finally:
            self._settling = outer
        end = self._ends.get(run_id, NOT_CLAIMED)
        while end.continued_as is not None:
            end = self._ends.get(end.continued_as, NOT_CLAIMED)
        return end

    def _settle(self) -> None:
        """Go on until nothing sleeps, waits or backs off any more. Crons do not fire in eager mode."""
        if self._settling:
            return
        self._settling = True
        try:
            for _ in range(WAKES_BOUND):
                self._take_turns()
                with self.runtime.store.connection() as connection:
                    dues = (
                        connection.runs.next_wake(),
                        connection.throttles.next_due(),
                        connection.windows.next_close(),
                    )
                due = min((one for one in dues if one is not None), default=None)
                if due is None:
                    return
                self._clock.set(max(due, self._clock.now()))
                let_in_due(self.runtime)
                close_due(self.runtime)
                wake_due(self.runtime)
                wake_branches(self.runtime)
        finally:
            self._settling = False
        raise FlowsError(f"a flow slept {WAKES_BOUND:,} times in eager mode and has no end; use the test kit for it")

    def _take_turns(self) -> None:
        while self._dispatcher.waiting:
            delivery = self._dispatcher.waiting.popleft()
            end = take_turn(self.runtime, delivery.run_id, branch=delivery.branch)
            if end.status is not None and not delivery.branch:
                self._ends[delivery.run_id] = end
