"""Runs as the lines of a list: what a look at many needs, without the values."""

from dataclasses import dataclass
from datetime import datetime

from celeryflows.console.pages import Page, moment
from celeryflows.console.searching import EVERYTHING, Wanted, find_runs
from celeryflows.durations import to_datetime
from celeryflows.engine.failures import read_failure
from celeryflows.engine.runtime import Runtime
from celeryflows.model.runs import Status
from celeryflows.store.reports.events import names_of_events
from celeryflows.store.reports.runs import LINE, RunView


@dataclass(frozen=True, slots=True)
class RunLine:
    """A run in a list. `trigger`: the name of its event, None when that is forgotten; `why`: its reason or error."""

    id: str
    flow: str
    status: Status
    event_id: str
    trigger: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    wake_at: datetime | None
    why: str | None


def run_lines(
    runtime: Runtime, wanted: Wanted = EVERYTHING, *, limit: int = 50, cursor: str | None = None
) -> Page[RunLine]:
    """Runs by id, the newest first, as `runs` lists them."""
    rows, following = find_runs(runtime, wanted, limit=limit, cursor=cursor, columns=LINE)
    names = names_of_events(runtime.store, sorted({row.event_id for row in rows}))
    return Page(tuple(_line(row, names.get(row.event_id)) for row in rows), following)


def _line(row: RunView, trigger: str | None) -> RunLine:
    return RunLine(
        id=row.id,
        flow=row.flow,
        status=Status(row.status),
        event_id=row.event_id,
        trigger=trigger,
        created_at=to_datetime(row.created_at),
        started_at=moment(row.started_at),
        ended_at=moment(row.ended_at),
        wake_at=moment(row.wake_at),
        why=row.reason or _error(row.error),
    )


def _error(text: str | None) -> str | None:
    if not text:
        return None
    failure = read_failure(text)
    return f"{failure.name}: {failure.message}"
