"""Events as pages and terminals show them, with the runs that each started."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, not_, select

from celeryflows.store.database import Store
from celeryflows.store.limit_tables import batch_events
from celeryflows.store.reports.reading import read
from celeryflows.store.schema import events, runs


@dataclass(frozen=True, slots=True)
class EventView:
    """An event for a list; `data` is JSON. Times in microseconds."""

    id: str
    ext_id: str | None
    name: str
    data: str
    ts: int
    v: str | None
    stored_at: int
    arrived_at: int | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class StartedRun:
    """A run that an event started."""

    event_id: str
    run_id: str
    flow: str
    status: str


EVENT = [events.c[name] for name in EventView.__dataclass_fields__]


def list_events(
    store: Store, *, name: str | None = None, own: bool = False, limit: int = 50, cursor: str | None = None
) -> list[EventView]:
    """Events, the newest id first; our own (`flows/...`) only with `own` or when one is named."""
    query: Select[Any] = select(*EVENT).order_by(events.c.id.desc()).limit(limit)
    if name is not None:
        query = query.where(events.c.name == name)
    elif not own:
        query = query.where(not_(events.c.name.startswith("flows/", autoescape=True)))
    if cursor is not None:
        query = query.where(events.c.id < cursor)
    return [EventView(*row) for row in read(store, query)]


def one_event(store: Store, event_id: str) -> EventView | None:
    """One event, None when there is none."""
    rows = read(store, select(*EVENT).where(events.c.id == event_id))
    return EventView(*rows[0]) if rows else None


def runs_of_events(store: Store, event_ids: Sequence[str]) -> list[StartedRun]:
    """The runs that these events started, or went into."""
    query = select(runs.c.event_id, runs.c.id, runs.c.flow, runs.c.status).where(runs.c.event_id.in_(event_ids))
    joined = (
        select(batch_events.c.event_id, runs.c.id, runs.c.flow, runs.c.status)
        .join(runs, runs.c.id == batch_events.c.run_id)
        .where(batch_events.c.event_id.in_(event_ids))
    )
    found = {StartedRun(*row) for row in (*read(store, query), *read(store, joined))}
    return sorted(found, key=lambda run: (run.run_id, run.event_id))


def names_of_events(store: Store, event_ids: Sequence[str]) -> dict[str, str]:
    """The names of these events, by id."""
    query = select(events.c.id, events.c.name).where(events.c.id.in_(event_ids))
    return {row[0]: row[1] for row in read(store, query)}
