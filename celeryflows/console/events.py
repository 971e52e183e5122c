"""Events on the desk, with the runs that each started."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from celeryflows.console.pages import Page, decoded, moment, page_of
from celeryflows.durations import to_datetime
from celeryflows.engine.runtime import Runtime
from celeryflows.store.reports.events import EventView, StartedRun, list_events, runs_of_events


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
    started = runs_of_events(runtime.store, [row.id for row in rows])
    by_event: dict[str, list[StartedRun]] = {}
    for run in started:
        by_event.setdefault(run.event_id, []).append(run)
    return page_of(rows, limit, lambda row: summary_of(row, tuple(by_event.get(row.id, ()))))


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
