"""Dues: when the next of all that is due at a time is due, in one look."""

from typing import NamedTuple

from celeryflows.store.columns import ALONG
from celeryflows.store.executor import Verbs

# By kind, what says when: the first entry of an index.
_NEXT = {
    "throttles": "next_at FROM flows_meters WHERE next_at IS NOT NULL ORDER BY next_at",
    "debounces": "fire_at FROM flows_debounces ORDER BY fire_at",
    "batches": "deadline FROM flows_batches ORDER BY deadline",
    "runs": f"wake_at FROM flows_runs WHERE wake_at IS NOT NULL AND {ALONG} ORDER BY wake_at",
    "branches": f"wake_at FROM flows_branches WHERE wake_at IS NOT NULL AND {ALONG} ORDER BY wake_at",
    "crons": "next_at FROM flows_crons WHERE next_at IS NOT NULL ORDER BY next_at",
    "replays": "next_at FROM flows_replays WHERE next_at IS NOT NULL ORDER BY next_at",
}
KINDS = tuple(_NEXT)
_LOOK = f"SELECT {{now}}, {', '.join(f'(SELECT {_NEXT[kind]} LIMIT 1)' for kind in KINDS)}"


class Looked(NamedTuple):
    """The store's clock, and when the next of each kind is due that has any."""

    now: int
    next: dict[str, int]

    @property
    def due(self) -> set[str]:
        """The kinds of which something is due."""
        return {kind for kind, at in self.next.items() if at <= self.now}


class Dues(Verbs):
    """The verb of dues."""

    def look(self) -> Looked:
        """What is due now, and what next."""
        ((now, *moments),) = self._execute(_LOOK)
        return Looked(now, {kind: at for kind, at in zip(KINDS, moments, strict=True) if at is not None})
