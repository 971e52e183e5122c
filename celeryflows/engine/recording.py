"""The turn's pen: writes under the fence of turn and token, and learns the store's clock from each reply."""

from collections.abc import Callable, Sequence

from celeryflows.engine import telling
from celeryflows.engine.carrier import Carrier
from celeryflows.engine.intake import accept
from celeryflows.engine.routing import deliver
from celeryflows.engine.runtime import Runtime
from celeryflows.errors import LostTurn, TurnCancelled
from celeryflows.model.events import Event
from celeryflows.model.runs import Status
from celeryflows.model.steps import State
from celeryflows.store.connection import Connection
from celeryflows.store.runs import Claim
from celeryflows.store.steps import StepRow


class Recorder:
    """Records steps of one claimed turn over one held connection.

    `heard` is the store's clock in its last reply; `looked` that the turn found its wait answered and replays.
    `must_yield` says when the turn has to go back to the queue; `tried`: failed attempts that its suspension commits;
    `has_branches`: groups of the run may be open when it ends; `carrier`: the delivery that takes on what it opens.
    """

    def __init__(self, runtime: Runtime, connection: Connection, claim: Claim, must_yield: Callable[[], bool]) -> None:
        self.runtime = runtime
        self.connection = connection
        self.claim = claim
        self.must_yield = must_yield
        self.looked = False
        self.tried: list[StepRow] = []
        self.has_branches = False
        self.carrier: Carrier | None = None
        self.heard = claim.at
        self._heard_at = runtime.clock.monotonic()

    def now(self) -> int:
        """The store's clock, without asking it: its last word and the time since."""
        return self.heard + int((self.runtime.clock.monotonic() - self._heard_at) * 1e6)

    def record(self, row: StepRow) -> str | None:
        """Record a step: None when it was taken, else the value that was there first.

        Raises LostTurn for a zombie, TurnCancelled when the run was cancelled.
        """
        at = self.connection.repeat(lambda: self.connection.steps.record(row))
        if at is None:
            stored = self.connection.repeat(lambda: self._adopt(self.connection, row))
            telling.recorded(self.claim, row)
            return stored
        self.recorded(row, at)
        return None

    def recorded(self, row: StepRow, at: int) -> None:
        """The step was recorded then."""
        self.hear(at)
        self._tell(row)

    def adopt(self, row: StepRow) -> str | None:
        """The value that was there before a transaction which the fence refused. Raises as `record` does."""
        stored = self.connection.repeat(lambda: self._adopt(self.connection, row, keeps_late=False))
        telling.recorded(self.claim, row)
        return stored

    def send(self, events: Sequence[Event], ids: Sequence[str], row: StepRow) -> None:
        """Route events and record the step that sent them, in one transaction.

        Raises LostTurn for a zombie, TurnCancelled when the run was cancelled, by one of these events too.
        """

        def fence(tx: Connection) -> None:
            at = tx.steps.record(row)
            if at is None:
                self._adopt(tx, row)
            else:
                self.hear(at)

        goes_on = deliver(self.runtime, accept(self.runtime, events, ids), also=fence, sender=(row.run, row.branch))
        self._tell(row)
        if not goes_on:
            raise TurnCancelled

    def hear(self, at: int) -> None:
        """Take the store's clock from a reply."""
        self.heard, self._heard_at = at, self.runtime.clock.monotonic()

    def tell_committed(self, keys: Sequence[str]) -> None:
        """A test kit may let the worker die here."""
        if self.runtime.interceptor is not None:
            for key in keys:
                self.runtime.interceptor.committed(self.claim, key)

    def tell_tried(self) -> None:
        """The attempts that failed and were written with the suspension."""
        for row in self.tried:
            telling.recorded(self.claim, row)
        self.tried.clear()

    def _tell(self, row: StepRow) -> None:
        self.tell_committed((row.key,))
        telling.recorded(self.claim, row)

    def _adopt(self, connection: Connection, row: StepRow, *, keeps_late: bool = True) -> str | None:
        """A write that took no row: our own commit whose reply was lost, a cancelled run, or a lost turn."""
        found = connection.steps.read_back(row.run, row.key, row.branch)
        if found is None:
            raise LostTurn
        mine = (found.turn, found.token) == (row.turn, row.token)
        if mine and found.status == Status.RUNNING and found.state in (State.DONE, State.FAILED):
            if found.ended_at is not None:
                self.hear(found.ended_at)
            return found.value
        if found.status == Status.CANCELLED:
            if mine and keeps_late and row.state == State.DONE:
                connection.steps.put_late(row)
            raise TurnCancelled
        raise LostTurn
