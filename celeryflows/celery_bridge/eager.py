"""`task_always_eager`: a run in place on a store in memory. Sleeps end at once; waits see what was sent or time out."""

from collections.abc import Callable
from typing import Any

from celery import states
from celery.result import EagerResult

from celeryflows.clock import Clock, TurnedClock
from celeryflows.engine.runtime import Dispatcher, Runtime
from celeryflows.engine.starting import Call, start
from celeryflows.engine.turn import NOT_CLAIMED, TurnEnd, take_turn
from celeryflows.model.runs import Status
from celeryflows.scheduler.inline import InlineDispatcher, InlineWorld
from celeryflows.store.database import Store


class EagerWorld:
    """The runs of one process in eager mode."""

    def __init__(self, runtime_on: Callable[[Store, Dispatcher, Clock], Runtime]) -> None:
        self._clock = TurnedClock()
        self._dispatcher = InlineDispatcher()
        self._ends: dict[str, TurnEnd] = {}
        store = Store("sqlite://", clock=self._clock)
        store.prepare()
        self.runtime = runtime_on(store, self._dispatcher, self._clock)
        self._world = InlineWorld(self.runtime, self._dispatcher, self._clock, self._turn)

    def run(self, call: Call) -> Any:
        """Run to the end, and what it started too; the EagerResult that Celery would give."""
        run_id = start(self.runtime, call)
        self._world.run_due()
        while self._ends.get(run_id, NOT_CLAIMED).status not in (Status.COMPLETED, Status.FAILED, Status.CANCELLED):
            due = self._world.next_due()
            if due is None:
                break
            self._world.turn_to(due)
        end = self._ends.get(run_id, NOT_CLAIMED)
        if end.status is Status.FAILED:
            return EagerResult(run_id, end.error, states.FAILURE, name=call.flow)
        state = states.SUCCESS if end.status is Status.COMPLETED else states.REVOKED
        return EagerResult(run_id, end.value, state, name=call.flow)

    def _turn(self, runtime: Runtime, run_id: str) -> TurnEnd:
        end = take_turn(runtime, run_id)
        if end.status is not None:
            self._ends[run_id] = end
        return end
