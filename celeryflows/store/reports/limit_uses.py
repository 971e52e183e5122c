"""Limits over time as pages show them: the leader's counts, put together to as many as are drawn."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select

from celeryflows.store.database import Store
from celeryflows.store.figure_tables import limit_uses
from celeryflows.store.reports.figures import piece_of
from celeryflows.store.reports.reading import read


@dataclass(frozen=True, slots=True)
class LimitUseView:
    """The most of a limit that was in use at one moment within a piece of time, and the last capacity in it."""

    limit_id: str
    no: int
    used: int
    waiting: int
    gates: int
    fullest: int
    capacity: int | None


def limit_uses_of(store: Store, limit_ids: Sequence[str], start: int, step: int, end: int) -> list[LimitUseView]:
    """These limits from `start` on, in pieces of `step`; pieces in which nobody held or waited are left out."""
    no = piece_of(limit_uses.c.at, start, step)
    most = (func.max(limit_uses.c[name]) for name in ("used", "waiting", "gates", "fullest", "capacity"))
    query = (
        select(limit_uses.c.limit_id, no, *most)
        .where(limit_uses.c.limit_id.in_(limit_ids), limit_uses.c.at >= start, limit_uses.c.at < end)
        .group_by(limit_uses.c.limit_id, no)
    )
    return [LimitUseView(*row) for row in read(store, query)] if limit_ids else []


def most_waited_for(store: Store, start: int, end: int, limit: int) -> list[str]:
    """The ids of the limits that were in use from `start` on, those that most waited for first."""
    query = (
        select(limit_uses.c.limit_id)
        .where(limit_uses.c.at >= start, limit_uses.c.at < end)
        .group_by(limit_uses.c.limit_id)
        .order_by(func.max(limit_uses.c.waiting).desc(), func.max(limit_uses.c.used).desc(), limit_uses.c.limit_id)
        .limit(limit)
    )
    return [row[0] for row in read(store, query)]
