"""Timers: what is due at a time is done at that time. The leader waits until the next due that it knows of, and looks
again after a quarter of a second at the latest, for what was asked for meanwhile."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from celeryflows.durations import SECOND
from celeryflows.engine.closing import close_due
from celeryflows.engine.replay import drive_due
from celeryflows.engine.resume import wake_branches, wake_due
from celeryflows.engine.runtime import Runtime
from celeryflows.engine.throttling import let_in_due
from celeryflows.scheduler.crons import fire_due

# Looks of which nothing is known beforehand, and all looks, are at least so many seconds apart.
EVERY, APART = 0.25, 0.01
# Two clocks, and a database that counts from its statement's start: who looks too early looks twice.
MARGIN = 0.001
WINDOWS = ("debounces", "batches")
# In this order: a window that closes makes its run due.
WORK: tuple[tuple[frozenset[str], Callable[[Runtime], int]], ...] = (
    (frozenset({"throttles"}), let_in_due),
    (frozenset(WINDOWS), close_due),
    (frozenset({"runs", *WINDOWS}), wake_due),
    (frozenset({"branches"}), wake_branches),
    (frozenset({"crons"}), fire_due),
    (frozenset({"replays"}), drive_due),
)


@dataclass(slots=True)
class Timers:
    """Times are seconds of the monotonic clock: of the last look, and by kind of the next due."""

    last: float = float("-inf")
    next: dict[str, float] = field(default_factory=dict)

    def wait(self, now: float) -> float:
        """How long nothing is to be looked at, as far as is known; 0 when it is time."""
        next_at = min(self.next.values(), default=float("inf"))
        return max(0.0, min(self.last + EVERY, max(next_at, self.last + APART)) - now)

    def look(
        self,
        runtime: Runtime,
        batches: Callable[[Callable[[Runtime], int]], None],
        gate: AbstractContextManager[Any],
    ) -> None:
        """Do what is due, by `batches`, and note what comes next. What is left of it, for it is more than a share of
        time or nobody can do it, waits for the next of the looks that come in any case."""
        self.last = runtime.clock.monotonic()
        due = {kind for kind, at in self.next.items() if at <= self.last} or self._note(runtime, gate)
        if not due:
            return
        # Where the store does not answer, it is asked no more often.
        self.next = {}
        for kinds, work in WORK:
            if kinds & due:
                batches(work)
        for kind in due & self._note(runtime, gate):
            del self.next[kind]

    def _note(self, runtime: Runtime, gate: AbstractContextManager[Any]) -> set[str]:
        self.last, self.next = runtime.clock.monotonic(), {}
        with gate, runtime.store.connection() as connection:
            found = connection.dues.look()
        now = runtime.clock.monotonic()
        self.next = {kind: now + max(0, at - found.now) / SECOND + MARGIN for kind, at in found.next.items()}
        return found.due
