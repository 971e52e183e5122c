"""Limits as pages and terminals show them: who is inside, who waits, since when."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, literal, select, union

from celeryflows.model.events import StoredEvent
from celeryflows.store.database import Store
from celeryflows.store.events import COLUMNS, read_event
from celeryflows.store.limit_tables import batches, debounces, gates, meters, queue, slots
from celeryflows.store.reports.reading import read
from celeryflows.store.schema import events, runs


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


@dataclass(frozen=True, slots=True)
class WindowView:
    """A debounce or a batch that is open: the event that its run starts with as it stands, how many events count by
    now, since when, and when it closes (microseconds)."""

    kind: str
    flow: str
    count: int
    since: int
    closes_at: int
    event: StoredEvent


def windows(store: Store, *, limit: int = 200) -> list[WindowView]:
    """Debounces and batches that wait for their time, those that wait longest first."""
    open_ones = [
        _open(literal("debounce"), debounces.c.run_id, literal(1), debounces.c.fire_at, limit),
        _open(literal("batch"), batches.c.run_id, batches.c.n, batches.c.deadline, limit),
    ]
    found = [_window(row) for query in open_ones for row in read(store, query)]
    return sorted(found, key=lambda one: (one.since, one.closes_at))[:limit]


def _window(row: tuple[Any, ...]) -> WindowView:
    kind, flow, count, since, closes_at, *event = row
    return WindowView(kind, flow, count, since, closes_at, read_event(tuple(event)))


def _open(kind: Any, run_id: Any, count: Any, closes_at: Any, limit: int) -> Select[Any]:
    of_event = [events.c[name] for name in COLUMNS.split(", ")]
    return (
        select(kind.label("kind"), runs.c.flow, count.label("n"), runs.c.created_at, closes_at.label("at"), *of_event)
        .join(runs, runs.c.id == run_id)
        .join(events, events.c.id == runs.c.event_id)
        .where(runs.c.status == "scheduled")
        .order_by(closes_at)
        .limit(limit)
    )


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
