"""A whole world in one process: messages in a list, turns taken in order, time turned by hand. No broker or threads."""

from collections import deque
from collections.abc import Callable, Sequence

from celeryflows.clock import TurnedClock
from celeryflows.engine.closing import close_due
from celeryflows.engine.hearing import tell_missed
from celeryflows.engine.replay import drive_due
from celeryflows.engine.resume import end_overdue, expire_unstarted, pay_debts, wake_branches, wake_due
from celeryflows.engine.runtime import LetGo, Runtime
from celeryflows.engine.throttling import let_in_due
from celeryflows.engine.turn import TurnEnd, take_turn
from celeryflows.errors import FlowsError
from celeryflows.model.runs import Delivery
from celeryflows.scheduler.crons import fire_due
from celeryflows.scheduler.doorkeeper import fill_changed, let_in
from celeryflows.scheduler.sweeper import route_left

TURNS_BOUND = 100_000
Turn = Callable[..., TurnEnd]


class Kept:
    """Messages that wait for what their sender does not do in place."""

    def __init__(self, dispatcher: "InlineDispatcher", let_go: LetGo) -> None:
        self._dispatcher = dispatcher
        self._let_go = let_go
        self._waiting: dict[str, Delivery] = {}

    def add(self, deliveries: Sequence[Delivery]) -> None:
        """They wait."""
        self._waiting |= {delivery.branch or delivery.run_id: delivery for delivery in deliveries}

    def begin(self, path: str) -> bool:
        """This one is done in place."""
        return self._waiting.pop(path, None) is not None

    def release(self) -> None:
        """Send what is left."""
        left, self._waiting = list(self._waiting.values()), {}
        self._let_go(left)
        if left:
            self._dispatcher.send_runs(left)


class InlineDispatcher:
    """Keeps messages in a list instead of a broker."""

    def __init__(self) -> None:
        self.waiting: deque[Delivery] = deque()

    def send_runs(self, deliveries: Sequence[Delivery]) -> None:
        """Keep the messages."""
        self.waiting.extend(deliveries)

    def postpone(self, let_go: LetGo) -> "Kept":
        """Messages that are sent only when their work is not done in place."""
        return Kept(self, let_go)

    def run_suspended(self, run_id: str) -> bool:
        """Nobody asks."""
        return False

    def run_cancelled(self, run_id: str, reason: str, message: str | None = None) -> None:
        """Nobody asks."""

    def run_continues(self, run_id: str, message: str | None) -> str | None:
        """The caller's options go on with the run."""
        return message

    def run_failed(self, run_id: str, error: Exception, message: str | None = None) -> None:
        """Nobody asks."""

    def terminate(self, task_id: str) -> None:
        """Turns are taken in place: none is at work elsewhere."""


class InlineWorld:
    """Moves runs on in place. `turn` takes one turn; a test kit puts its own around it."""

    def __init__(
        self, runtime: Runtime, dispatcher: InlineDispatcher, clock: TurnedClock, turn: Turn = take_turn
    ) -> None:
        self.runtime = runtime
        self.dispatcher = dispatcher
        self.clock = clock
        self.turn = turn
        self._draining = False

    def drain(self) -> None:
        """Take turns until no message is left."""
        if self._draining:
            return
        self._draining = True
        try:
            for _ in range(TURNS_BOUND):
                if not self.dispatcher.waiting:
                    return
                delivery = self.dispatcher.waiting.popleft()
                if delivery.branch:
                    self.turn(self.runtime, delivery.run_id, branch=delivery.branch)
                else:
                    self.turn(self.runtime, delivery.run_id)
        finally:
            self._draining = False
        raise FlowsError(f"{TURNS_BOUND:,} turns and no end: does a flow start itself?")

    def run_due(self) -> None:
        """Do all that is due at this moment, and what follows from it."""
        self.drain()
        while (
            close_due(self.runtime)
            + wake_due(self.runtime)
            + wake_branches(self.runtime)
            + fire_due(self.runtime)
            + route_left(self.runtime, 0)
            + pay_debts(self.runtime, 0)
            + expire_unstarted(self.runtime)
            + drive_due(self.runtime)
            + let_in_due(self.runtime)
            + let_in(self.runtime)
            + fill_changed(self.runtime)
            + end_overdue(self.runtime)
            + tell_missed(self.runtime)
        ):
            self.drain()

    def next_due(self) -> int | None:
        """The next moment at which something is due, None when nothing ever is."""
        with self.runtime.store.connection() as connection:
            dues = (connection.runs.next_due(), connection.throttles.next_due())
        return min((due for due in dues if due is not None), default=None)

    def turn_to(self, moment: int, most: int = TURNS_BOUND) -> None:
        """Turn the clock to the moment, stopping at everything due on the way."""
        self.run_due()
        for _ in range(most):
            due = self.next_due()
            if due is None or due > moment:
                break
            self.clock.set(max(due, self.clock.now()))
            self.run_due()
        else:
            raise FlowsError(f"more than {most:,} things are due on the way; advance by smaller pieces")
        if moment > self.clock.now():
            self.clock.set(moment)
        self.run_due()
