"""Replays as pages and terminals show them, with how the runs that they started stand."""

from collections import Counter

from sqlalchemy import and_, func, select

from celeryflows.ids import SHARED, shared_by_siblings, sibling_id
from celeryflows.store.database import Store
from celeryflows.store.replays import ReplayRow
from celeryflows.store.reports.reading import read
from celeryflows.store.schema import replays, runs

REPLAY = [replays.c[name] for name in ReplayRow.__dataclass_fields__]


def list_replays(store: Store, limit: int = 50) -> list[ReplayRow]:
    """Replays, the newest first."""
    return [ReplayRow(*row) for row in read(store, select(*REPLAY).order_by(replays.c.id.desc()).limit(limit))]


def count_replayed(store: Store, replay_id: str) -> dict[str, int]:
    """How many of the runs that it started stand where; they stand side by side in the order of ids."""
    first = shared_by_siblings(replay_id)
    its = and_(runs.c.id >= first, runs.c.id < f"{first}~", runs.c.origin.is_not(None))
    if not _has_twin(store, replay_id):
        query = select(runs.c.status, func.count()).where(its).group_by(runs.c.status)
        return {row[0]: row[1] for row in read(store, query)}
    rows = read(store, select(runs.c.status, runs.c.id, runs.c.origin).where(its))
    return dict(Counter(status for status, id, origin in rows if id == sibling_id(replay_id, origin)))


def _has_twin(store: Store, replay_id: str) -> bool:
    """True when another replay was made in its millisecond: their runs stand among each other."""
    first = replay_id[:SHARED]
    query = select(replays.c.id).where(replays.c.id >= first, replays.c.id < f"{first}~").limit(2)
    return len(read(store, query)) > 1
