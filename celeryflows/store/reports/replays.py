"""Replays as pages and terminals show them, with how the runs that they started stand."""

from sqlalchemy import func, select

from celeryflows.ids import SHARED
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
    first = replay_id[:SHARED]
    query = (
        select(runs.c.status, func.count())
        .where(runs.c.id >= first, runs.c.id < f"{first}~", runs.c.origin.is_not(None))
        .group_by(runs.c.status)
    )
    return {row[0]: row[1] for row in read(store, query)}
