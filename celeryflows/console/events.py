"""Events on the desk, with the runs that each started."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from celeryflows.console.pages import Page, decoded, moment, page_of
from celeryflows.durations import to_datetime
from celeryflows.engine.runtime import Runtime
from celeryflows.errors import UnknownEvent
from celeryflows.store.reports.events import (
    EVENT_LINE,
    MOST,
    EventView,
    StartedRun,
    list_events,
    one_event,
    runs_answered,
    runs_of_events,
)


@dataclass(frozen=True, slots=True)
class EventSummary:
    """An event for a list. `key` is the sender's own id; `problem` tells why a condition could not be judged."""

    id: str
    key: str | None
    name: str
    data: Any
    ts: datetime
    v: str | None
    stored_at: datetime
    arrived_at: datetime | None
    problem: str | None
    runs: tuple[StartedRun, ...] = ()


def events(
    runtime: Runtime, *, name: str | None = None, own: bool = False, limit: int = 50, cursor: str | None = None
) -> Page[EventSummary]:
    """Events by id, the newest first, each with its runs; our own (`flows/...`) with `own` or when one is named."""
    rows = list_events(runtime.store, name=name, own=own, limit=limit + 1, cursor=cursor)
    return page_of(rows, limit, _with_runs(runtime, rows[:limit]))


def event_lines(
    runtime: Runtime, *, name: str | None = None, own: bool = False, limit: int = 50, cursor: str | None = None
) -> Page[EventSummary]:
    """As `events`, without their data."""
    rows = list_events(runtime.store, name=name, own=own, limit=limit + 1, cursor=cursor, columns=EVENT_LINE)
    return page_of(rows, limit, _with_runs(runtime, rows[:limit]))


@dataclass(frozen=True, slots=True)
class EventDetail:
    """One event with the runs that it started, and those that waited for it; 200 of each at most."""

    event: EventSummary
    started: tuple[StartedRun, ...]
    answered: tuple[StartedRun, ...]


def event(runtime: Runtime, event_id: str) -> EventDetail:
    """One event. Raises UnknownEvent."""
    found = one_event(runtime.store, event_id)
    if found is None:
        raise UnknownEvent(f"No event {event_id!r} in the store {runtime.store.shown_url()}.")
    started = tuple(runs_of_events(runtime.store, [event_id])[:MOST])
    return EventDetail(summary_of(found), started, tuple(runs_answered(runtime.store, event_id)))


def _with_runs(runtime: Runtime, rows: Sequence[EventView]) -> Callable[[EventView], EventSummary]:
    by_event: dict[str, list[StartedRun]] = {}
    for run in runs_of_events(runtime.store, [row.id for row in rows]):
        by_event.setdefault(run.event_id, []).append(run)
    return lambda row: summary_of(row, tuple(by_event.get(row.id, ())))


def summary_of(row: EventView, runs: tuple[StartedRun, ...] = ()) -> EventSummary:
    """A stored event as it is shown."""
    return EventSummary(
        id=row.id,
        key=row.ext_id,
        name=row.name,
        data=decoded(row.data),
        ts=to_datetime(row.ts),
        v=row.v,
        stored_at=to_datetime(row.stored_at),
        arrived_at=moment(row.arrived_at),
        problem=row.problem,
        runs=runs,
    )
