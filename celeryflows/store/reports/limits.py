"""Limits as pages and terminals show them: who is inside, who waits, since when."""

from dataclasses import dataclass

from sqlalchemy import func, select, union

from celeryflows.store.database import Store
from celeryflows.store.limit_tables import gates, meters, queue, slots
from celeryflows.store.reports.reading import read


@dataclass(frozen=True, slots=True)
class LineView:
    """A gate or a throttle's line: the key's value as JSON, slots held, units that wait, and since when the oldest does
    (microseconds). `next_at`: when a throttle lets the next one in."""

    name: str
    limit_id: str | None
    flow: str
    value: str | None
    used: int
    waiting: int
    oldest: int | None
    next_at: int | None = None


def lines(store: Store, *, limit: int = 200) -> list[LineView]:
    """Gates that somebody holds a slot of or waits at, and throttles with a line; those who wait longest first."""
    wanted = union(select(slots.c.gate).where(slots.c.run_id.is_not(None)), select(queue.c.gate)).subquery()
    used = select(func.count()).where(slots.c.gate == wanted.c.gate, slots.c.run_id.is_not(None)).scalar_subquery()
    waiting = select(func.count()).where(queue.c.gate == wanted.c.gate).scalar_subquery()
    oldest = select(func.min(queue.c.joined_at)).where(queue.c.gate == wanted.c.gate).scalar_subquery()
    rows = read(
        store,
        select(
            wanted.c.gate,
            gates.c.limit_id,
            func.coalesce(gates.c.flow, meters.c.flow, ""),
            func.coalesce(gates.c.value, meters.c.value).label("value"),
            used,
            waiting,
            oldest.label("oldest"),
            meters.c.next_at,
        )
        .select_from(
            wanted.outerjoin(gates, gates.c.key == wanted.c.gate).outerjoin(meters, meters.c.key == wanted.c.gate)
        )
        .order_by(func.coalesce(oldest, 2**62), wanted.c.gate)
        .limit(limit),
    )
    return [LineView(*row) for row in rows]
