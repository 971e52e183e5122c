"""What one delivery carries: the turn that its message is for, and what that turn opens, as long as nobody else has it.

A branch that is over in a moment needs no message; those of longer ones are sent while the first is at work."""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from celeryflows.engine.runtime import Postponed, Runtime
from celeryflows.model.branches import group_of, parent_of
from celeryflows.model.runs import Delivery
from celeryflows.model.steps import Memo
from celeryflows.store.connection import Connection
from celeryflows.store.runs import Claim


class Carrier:
    """One delivery, of the run itself (`path` is '') or of a branch. All that is to do has a message that waits.

    `facts` is a claim of the run. A branch's delivery never carries the run itself: its value belongs to the run's.
    """

    def __init__(self, runtime: Runtime, path: str) -> None:
        self.path = path
        self.facts: Claim | None = None
        self._runtime = runtime
        self._todo: deque[str] = deque()
        self._claims: dict[str, Claim] = {}
        self._memos: dict[str, dict[str, Memo]] = {}
        self._messages: Postponed | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """What is not done here is sent."""
        if self._messages is not None:
            self._messages.release()

    @property
    def is_loaded(self) -> bool:
        """True when there is something to take on."""
        return bool(self._todo)

    def begin(self, connection: Connection, claim: Claim) -> None:
        """A turn begins. Who comes after a lost one takes on what that one may have left without a message."""
        if not claim.path:
            self.facts = claim
        elif claim.lost:
            left = connection.repeat(lambda: connection.branches.unclaimed(claim.run_id, group_of(claim.path)))
            self.open([replace(claim.delivery, branch=path) for path in left], None)

    def open(self, deliveries: Sequence[Delivery], first: Claim | None) -> None:
        """Take branches on that were opened just now; the first is claimed already."""
        self._postpone(deliveries)
        self._todo.extend(delivery.branch for delivery in deliveries)
        if first is not None:
            self._claims[first.path] = first

    def resume(self, deliveries: Sequence[Delivery]) -> None:
        """Go on with those whose group is over."""
        for delivery in deliveries:
            if delivery.branch or not self.path:
                self._postpone([delivery])
                self._todo.appendleft(delivery.branch)
            else:
                self._runtime.dispatcher.send_runs([delivery])

    def next(self) -> tuple[str, Claim | None]:
        """What to take on now, and its claim where it has one."""
        path = self._todo.popleft()
        if self._messages is not None:
            self._messages.begin(path)
        return path, self._claims.pop(path, None)

    def memos(self, connection: Connection, claim: Claim, *, anew: bool) -> dict[str, Memo]:
        """What a turn remembers. Branches in their first turn share what was before their group."""
        if anew or not claim.path or claim.turn > 1 or claim.origin is not None:
            return connection.repeat(lambda: connection.steps.memos(claim.run_id, claim.path))
        group = group_of(claim.path)
        if group not in self._memos:
            parent = parent_of(claim.path)
            self._memos[group] = connection.repeat(lambda: connection.steps.memos(claim.run_id, parent))
        return self._memos[group]

    def _postpone(self, deliveries: Sequence[Delivery]) -> None:
        if self._messages is None:
            self._messages = self._runtime.dispatcher.postpone()
        self._messages.add(deliveries)


def first_of(claim: Claim, path: str, token: int) -> Claim:
    """The claim of a branch that is written as running already."""
    return replace(claim, path=path, token=token, turn=1, attempt=0, lost=0)
