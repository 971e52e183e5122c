"""Events as pages and terminals show them, with the runs that each started."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, not_, null, select

from celeryflows.store.database import Store
from celeryflows.store.limit_tables import batch_events
from celeryflows.store.reports.reading import read
from celeryflows.store.schema import events, runs, waits


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


# Of the runs that one event started or answered, so many are shown.
MOST = 200
EVENT = [events.c[name] for name in EventView.__dataclass_fields__]
# Without the payload, which may have half a megabyte.
EVENT_LINE = [null() if column is events.c.data else column for column in EVENT]


def list_events(
    store: Store,
    *,
    name: str | None = None,
    own: bool = False,
    limit: int = 50,
    cursor: str | None = None,
    columns: Sequence[ColumnElement[Any]] = EVENT,
) -> list[EventView]:
    """Events, the newest id first; our own (`flows/...`) only with `own` or when one is named. `columns` is EVENT, or
    EVENT_LINE without the payloads."""
    query: Select[Any] = select(*columns).order_by(events.c.id.desc()).limit(limit)
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


def runs_answered(store: Store, event_id: str) -> list[StartedRun]:
    """The runs that waited for this event."""
    query = (
        select(waits.c.event_id, runs.c.id, runs.c.flow, runs.c.status)
        .join(runs, runs.c.id == waits.c.run_id)
        .where(waits.c.event_id == event_id, waits.c.state == "answered")
        .order_by(runs.c.id)
        .limit(MOST)
    )
    return [StartedRun(*row) for row in read(store, query)]
