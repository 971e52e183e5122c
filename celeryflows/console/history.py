"""Histories on the desk: whole runs as lines of JSON, and whether today's code still fits them."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice

from celeryflows.durations import parse_moment
from celeryflows.engine.checking import RunCheck, check
from celeryflows.engine.runtime import Runtime
from celeryflows.model.history import line_of, read_line, read_record
from celeryflows.model.runs import OPEN, Status
from celeryflows.store.reports.history import Chosen, whole_runs

OPEN_RUNS = "open"
STATUSES = (OPEN_RUNS, *(status.value for status in Status))


def export(
    runtime: Runtime,
    *,
    flow: str | None = None,
    after: datetime | str | None = None,
    before: datetime | str | None = None,
    status: str | None = None,
) -> Iterator[str]:
    """A line of JSON for each run, with its event, steps and waits, by id; read in pages.

    `after` and `before` are about when a run was made; `status` is one, or "open" for all that have not ended.
    """
    first = None if after is None else parse_moment(after, "after")
    last = None if before is None else parse_moment(before, "before")
    chosen = Chosen(flow, first, last, _statuses(status))
    return (line_of(record) for record in whole_runs(runtime.store, chosen))


def check_store(
    runtime: Runtime, *, flow: str | None = None, status: str | None = None, limit: int | None = None
) -> Iterator[RunCheck]:
    """Check today's code against the newest runs of the store, skipped ones left out."""
    statuses = _statuses(status) or frozenset(Status) - {Status.SKIPPED}
    found = whole_runs(runtime.store, Chosen(flow, statuses=statuses), newest_first=True)
    now = runtime.store.clock.now()
    return (check(runtime, read_record(record, now)) for record in islice(found, limit))


def check_lines(
    runtime: Runtime,
    lines: Iterable[str],
    *,
    flow: str | None = None,
    status: str | None = None,
    limit: int | None = None,
) -> Iterator[RunCheck]:
    """Check today's code against exported lines. Raises FlowsError for a line that is none."""
    statuses = _statuses(status) or frozenset(Status) - {Status.SKIPPED}
    now = runtime.store.clock.now()
    histories = (read_line(line, now) for line in lines if line.strip())
    meant = (one for one in histories if one.status in statuses and flow in (None, one.flow))
    return (check(runtime, one) for one in islice(meant, limit))


def _statuses(status: str | None) -> frozenset[str]:
    return frozenset(OPEN) if status == OPEN_RUNS else frozenset({status} if status is not None else ())
