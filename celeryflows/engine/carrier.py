"""What one delivery carries: the turn that its message is for, and what that turn opens, as long as nobody else has it.

A branch that is over in a moment needs no message; those of longer ones are sent while the first is at work."""

import random
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from celeryflows.engine.aftermath import left_to_recovery
from celeryflows.engine.bundled_runs import BundledRuns
from celeryflows.engine.passing import End, end_by_themselves, give_up
from celeryflows.engine.runtime import Postponed, Runtime
from celeryflows.model.branches import group_of, parent_of
from celeryflows.model.runs import Delivery
from celeryflows.model.steps import Memo
from celeryflows.store.branches import Following
from celeryflows.store.connection import Connection
from celeryflows.store.runs import Claim

# So many branches of a group are claimed as it opens.
AT_ONCE = 32
# So many seconds after it took the first one on, a delivery leaves what is left to other messages.
CARRIES = 1.0


class Carrier:
    """One delivery, of the run itself (`path` is '') or of a branch; `name` is what tells it apart, its path where the
    unit has a message of its own, and `bundled` the runs that came with this one where it has none. All that is to do
    has a message that waits, or is claimed already. Of a group that it opens it claims the first branches at once;
    their ends are written together, by the last of them, or after a moment, when those that have not begun are given
    up.

    `facts` is a claim of the run; `heard_at`: when the store was asked for the clock that a carried claim has, by this
    process's monotonic clock; `owes_word` that nobody was told yet that the run waits for its branches. A branch's
    delivery never carries the run itself: its value belongs to the run's.
    """

    def __init__(
        self, runtime: Runtime, path: str, may_go_on: Callable[[], bool], bundled: BundledRuns | None = None
    ) -> None:
        self.path = path
        self.bundled = bundled
        self.name = path if bundled is None else bundled.carrier
        self.facts: Claim | None = None
        self.heard_at = 0.0
        self.owes_word = False
        self._runtime = runtime
        self._may_go_on = may_go_on
        self._until: float | None = None
        self._todo: deque[str] = deque()
        self._claim: Claim | None = None
        self._memos: dict[str, dict[str, Memo]] = {}
        self._messages: Postponed | None = None
        # Claimed with their group, and when the store was asked for their clock: not begun, and begun.
        self._held: dict[str, tuple[Claim, float]] = {}
        self._begun: dict[str, Claim] = {}
        self._ends: defaultdict[str, list[End]] = defaultdict(list)
        # Of these three: the thread that sends what is late takes from them.
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """What is not done here is sent; what an error leaves unwritten is repeated."""
        if error is not None:
            self._held.clear()
            self._ends.clear()
        if self._messages is not None:
            self._messages.release()

    @property
    def has_more(self) -> bool:
        """True when there was more to take on than the message asked for."""
        return self._until is not None

    @property
    def is_loaded(self) -> bool:
        """True when there is something that this delivery has to take on, or may."""
        return self._claim is not None or (bool(self._todo) and self.may_go_on)

    @property
    def may_go_on(self) -> bool:
        """True while it is young: nothing that others could do waits for it for long."""
        return (self._until is None or self._runtime.clock.monotonic() < self._until) and self._may_go_on()

    def token(self, run_id: str) -> int:
        """For a claim of the run; the one that it was tried under with the end of the run before, if it was."""
        known = self.bundled.token(run_id) if self.bundled is not None else None
        return random.getrandbits(62) if known is None else known

    def claimed(self, connection: Connection, run_id: str) -> Claim | None:
        """The claim that was made with the end of the run before it. Raises PayloadLocked."""
        claim = self.bundled.claim(connection, run_id) if self.bundled is not None else None
        if claim is not None and self.bundled is not None:
            self.heard_at = self.bundled.heard_at
        return claim

    def begin(self, connection: Connection, claim: Claim) -> None:
        """A turn begins. Who comes after a lost one takes on what that one may have left without a message."""
        if not claim.path:
            self.facts, self.owes_word = claim, False
        elif (claim.lost or claim.lost_since is not None) and claim.path == self.path:
            left = connection.repeat(lambda: connection.branches.unclaimed(claim.run_id, group_of(claim.path)))
            self.open([replace(claim.delivery, branch=path) for path in left], (), self.heard_at)

    def open(self, deliveries: Sequence[Delivery], claimed: Sequence[Claim], heard_at: float) -> None:
        """Take branches on, before all that is to do; the first ones may be claimed already, by a turn that last heard
        the store's clock at `heard_at`."""
        self._take_on()
        self.heard_at = heard_at
        self._todo.extendleft(delivery.branch for delivery in reversed(deliveries))
        self._claim = claimed[0] if claimed else None
        with self._lock:
            self._begun |= {claim.path: claim for claim in claimed[:1]}
            self._held |= {claim.path: (claim, heard_at) for claim in claimed[1:]}
        if waiting := deliveries[1:] if claimed else deliveries:
            if self._messages is None:
                self._messages = self._runtime.dispatcher.postpone(self._let_go)
            self._messages.add(waiting)

    def ends_later(self, claim: Claim, value: str) -> bool:
        """True when the end of the branch is written with those of its siblings, which follow at once."""
        group = group_of(claim.path)
        with self._lock:
            if self._begun.get(claim.path) is not claim or not any(group_of(path) == group for path in self._held):
                return False
            self._ends[group].append(End(claim, value))
            return True

    def ends_of(self, group: str) -> list[End]:
        """The ends that the last of the group writes with its own."""
        with self._lock:
            return self._ends.pop(group, [])

    def stop(self) -> None:
        """A turn was cancelled or lost: nothing more begins here, for what was claimed with it may be another's too."""
        self._todo.clear()

    def _let_go(self, deliveries: Sequence[Delivery]) -> None:
        """Something takes its time, or the delivery ends: others may have what has not begun, and see what ended."""
        with self._lock:
            ends, self._ends = list(self._ends.values()), defaultdict(list)
            held = [self._held.pop(one.branch)[0] for one in deliveries if one.branch in self._held]
        with left_to_recovery():
            for group in ends:
                end_by_themselves(self._runtime, group)
            for claims in _by_group(held):
                give_up(self._runtime, claims)

    def following(self) -> Following:
        """The branch to take on after this one, if any is and may be."""
        path = self._todo[0] if self._todo and self.may_go_on else ""
        path = "" if path in self._held else path
        return Following(path, random.getrandbits(62), self.name)

    def follow(self, claim: Claim, heard_at: float) -> None:
        """It is claimed."""
        self._claim, self.heard_at = claim, heard_at

    def takes(self, delivery: Delivery) -> bool:
        """True when this delivery may go on with a unit whose group is over."""
        return bool(delivery.branch or not self.path) and self.may_go_on

    def resume(self, delivery: Delivery, claim: Claim | None, heard_at: float, *, after: str) -> None:
        """The group `after` is over: go on with who opened it, when it is claimed for this; no branch is left to do."""
        self._drop(f"{after}[")
        if claim is None:
            self._runtime.dispatcher.send_runs([delivery])
        else:
            self._take_on()
            self._todo.appendleft(delivery.branch)
            self._claim, self.heard_at = claim, heard_at

    def _take_on(self) -> None:
        if self._until is None:
            self._until = self._runtime.clock.monotonic() + CARRIES

    def _drop(self, prefix: str) -> None:
        gone = [path for path in self._todo if path.startswith(prefix)]
        if gone and self._messages is not None:
            self._todo = deque(path for path in self._todo if path not in gone)
            for path in gone:
                self._messages.begin(path)

    def next(self) -> tuple[str, Claim | None]:
        """What to take on now, and its claim where it has one."""
        path, claim, self._claim = self._todo.popleft(), self._claim, None
        if self._messages is not None:
            self._messages.begin(path)
        with self._lock:
            held = self._held.pop(path, None)
            if held is not None:
                claim, self.heard_at = held
                self._begun[path] = claim
        return path, claim

    def memos(self, connection: Connection, claim: Claim, *, anew: bool) -> dict[str, Memo]:
        """What a turn remembers. Branches in their first turn share what was before their group."""
        if anew or not claim.path or claim.turn > 1 or claim.origin is not None:
            return connection.repeat(lambda: connection.steps.memos(claim.run_id, claim.path))
        group = group_of(claim.path)
        if group not in self._memos:
            parent = parent_of(claim.path)
            self._memos[group] = connection.repeat(lambda: connection.steps.memos(claim.run_id, parent))
        return self._memos[group]


def first_of(claim: Claim, path: str, token: int, at: int) -> Claim:
    """The claim of a branch that is written as running already, by a turn that last heard the store's clock `at`."""
    return replace(claim, path=path, token=token, turn=1, attempt=0, lost=0, at=at, lost_since=None)


def _by_group(claims: Sequence[Claim]) -> list[list[Claim]]:
    found: defaultdict[str, list[Claim]] = defaultdict(list)
    for claim in claims:
        found[group_of(claim.path)].append(claim)
    return list(found.values())
