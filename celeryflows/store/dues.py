"""Dues: when the next of all that is due at a time is due, in one look."""

from typing import NamedTuple

from celeryflows.store.columns import ALONG
from celeryflows.store.executor import Verbs

# By kind, the next moment: each the first entry of an index.
_NEXT = {
    "throttles": "SELECT min(next_at) FROM flows_meters WHERE next_at IS NOT NULL",
    "debounces": "SELECT min(fire_at) FROM flows_debounces",
    "batches": "SELECT min(deadline) FROM flows_batches",
    "runs": f"SELECT min(wake_at) FROM flows_runs WHERE wake_at IS NOT NULL AND {ALONG}",
    "branches": f"SELECT min(wake_at) FROM flows_branches WHERE wake_at IS NOT NULL AND {ALONG}",
    "crons": "SELECT min(next_at) FROM flows_crons WHERE next_at IS NOT NULL",
    "replays": "SELECT min(next_at) FROM flows_replays WHERE next_at IS NOT NULL",
}
KINDS = tuple(_NEXT)
_LOOK = f"SELECT {{now}}, {', '.join(f'({_NEXT[kind]})' for kind in KINDS)}"


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
