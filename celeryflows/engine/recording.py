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

    `heard` is the store's clock in its last reply; `heard_at` when it was asked, by this process's monotonic clock:
    counted from there nothing is due too early, however long the reply was on its way. `began`: when the fresh step at
    hand did, in a turn that was lost if it is the one at which that was. `looked` that the turn found its
    wait answered and replays. `must_yield` says when the turn has to go back to the queue; `tried`: failed attempts
    that its suspension commits; `has_branches`: groups of the run may be open when it ends; `carrier`: the delivery
    that takes on what it opens.
    """

    def __init__(
        self,
        runtime: Runtime,
        connection: Connection,
        claim: Claim,
        must_yield: Callable[[], bool],
        heard_at: float | None = None,
    ) -> None:
        self.runtime = runtime
        self.connection = connection
        self.claim = claim
        self.must_yield = must_yield
        self.looked = False
        self.tried: list[StepRow] = []
        self.has_branches = False
        self.carrier: Carrier | None = None
        self.heard = self.began = claim.at
        self.heard_at = runtime.clock.monotonic() if heard_at is None else heard_at

    def now(self) -> int:
        """The store's clock, without asking it: its last word and the time since."""
        return self.heard + int((self.runtime.clock.monotonic() - self.heard_at) * 1e6)

    def record(self, row: StepRow) -> str | None:
        """Record a step: None when it was taken, else the value that was there first.

        Raises LostTurn for a zombie, TurnCancelled when the run was cancelled.
        """
        asked = self.runtime.clock.monotonic()
        at = self.connection.repeat(lambda: self.connection.steps.record(row))
        if at is None:
            stored = self.connection.repeat(lambda: self._adopt(self.connection, row, asked))
            telling.recorded(self.claim, row)
            return stored
        self.recorded(row, at, asked)
        return None

    def recorded(self, row: StepRow, at: int, asked: float) -> None:
        """The step was recorded at `at`, which the store was asked for at `asked`."""
        self.hear(at, asked)
        self._tell(row)

    def adopt(self, row: StepRow, asked: float) -> str | None:
        """The value that was there before a transaction which the fence refused. Raises as `record` does."""
        stored = self.connection.repeat(lambda: self._adopt(self.connection, row, asked, keeps_late=False))
        telling.recorded(self.claim, row)
        return stored

    def send(self, events: Sequence[Event], ids: Sequence[str], row: StepRow) -> None:
        """Route events and record the step that sent them, in one transaction.

        Raises LostTurn for a zombie, TurnCancelled when the run was cancelled, by one of these events too.
        """

        asked = self.runtime.clock.monotonic()

        def fence(tx: Connection) -> None:
            at = tx.steps.record(row)
            if at is None:
                self._adopt(tx, row, asked)
            else:
                self.hear(at, asked)

        goes_on = deliver(self.runtime, accept(self.runtime, events, ids), also=fence, sender=(row.run, row.branch))
        self._tell(row)
        if not goes_on:
            raise TurnCancelled

    def hear(self, at: int, asked: float) -> None:
        """Take the store's clock from a reply."""
        self.heard, self.heard_at = at, asked
        self.began = at

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

    def _adopt(self, connection: Connection, row: StepRow, asked: float, *, keeps_late: bool = True) -> str | None:
        """A write that took no row: our own commit whose reply was lost, a cancelled run, or a lost turn."""
        found = connection.steps.read_back(row.run, row.key, row.branch)
        if found is None:
            raise LostTurn
        mine = (found.turn, found.token) == (row.turn, row.token)
        if mine and found.status == Status.RUNNING and found.state in (State.DONE, State.FAILED):
            if found.ended_at is not None:
                self.hear(found.ended_at, asked)
            return found.value
        if found.status == Status.CANCELLED:
            if mine and keeps_late and row.state == State.DONE:
                connection.steps.put_late(row)
            raise TurnCancelled
        raise LostTurn
