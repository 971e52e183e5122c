"""One event, one run, the runs of an event: what the REST API asks for."""

from dataclasses import dataclass
from datetime import datetime

from celeryflows.console.events import EventSummary, summary_of
from celeryflows.console.pages import Page, page_of
from celeryflows.console.runs import RunSummary, run_summary
from celeryflows.durations import parse_moment
from celeryflows.engine.runtime import Runtime
from celeryflows.errors import UnknownEvent, UnknownRun
from celeryflows.store.reports.events import one_event
from celeryflows.store.reports.received import list_received, runs_of_event
from celeryflows.store.reports.runs import one_run


@dataclass(frozen=True, slots=True)
class RunWithEvent:
    """A run and the event that started it, None when that is gone."""

    run: RunSummary
    event: EventSummary | None


def received(
    runtime: Runtime,
    *,
    name: str | None = None,
    after: datetime | str | None = None,
    before: datetime | str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[EventSummary]:
    """Events by id, the newest first, received in this time. Raises InvalidDuration for a moment without zone."""
    span = (
        None if after is None else parse_moment(after, "received_after"),
        None if before is None else parse_moment(before, "received_before"),
    )
    rows = list_received(runtime.store, name=name, span=span, limit=limit + 1, cursor=cursor)
    return page_of(rows, limit, summary_of)


def event(runtime: Runtime, event_id: str) -> EventSummary:
    """One event. Raises UnknownEvent."""
    row = one_event(runtime.store, event_id)
    if row is None:
        raise UnknownEvent(f"No event {event_id!r} in the store {runtime.store.shown_url()}.")
    return summary_of(row)


def runs_of(runtime: Runtime, event_id: str) -> list[RunWithEvent]:
    """The runs that an event started. Raises UnknownEvent."""
    found = event(runtime, event_id)
    return [RunWithEvent(run_summary(row), found) for row in runs_of_event(runtime.store, event_id)]


def run(runtime: Runtime, run_id: str) -> RunWithEvent:
    """One run. Raises UnknownRun."""
    row = one_run(runtime.store, run_id)
    if row is None:
        raise UnknownRun(f"No run {run_id!r} in the store {runtime.store.shown_url()}.")
    started_by = one_event(runtime.store, row.event_id)
    return RunWithEvent(run_summary(row), None if started_by is None else summary_of(started_by))
