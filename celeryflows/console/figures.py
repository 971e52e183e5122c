"""Figures on the desk: throughput, latency, failures and backlog over time, of one flow or of all.

A figure belongs to the time at which its runs were made; what is not over yet counts later."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from celeryflows.durations import DAY, HOUR, MINUTE, to_datetime
from celeryflows.engine.runtime import Runtime
from celeryflows.store.figure_tables import BOUNDS, CLASSES
from celeryflows.store.reports.figures import BacklogView, backlog_of, figures_of, totals, volumes

# The ranges of a page, each with the piece of time that one point stands for.
RANGES = {"1h": (HOUR, 5 * MINUTE), "6h": (6 * HOUR, 5 * MINUTE), "24h": (DAY, 15 * MINUTE)}
RANGES |= {"7d": (7 * DAY, 2 * HOUR), "30d": (30 * DAY, 8 * HOUR)}
ALL = ""
# The pages call a stretch of time a range too.
_COUNTED = range


@dataclass(frozen=True, slots=True)
class Point:
    """One piece of time, from `at` on: what became of the runs made in it, and how long they took.

    `waited` is the mean from made to started; `queued` and `running` the most at once, None where nobody counted.
    """

    at: datetime
    made: int = 0
    unfinished: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    skipped: int = 0
    p50: timedelta | None = None
    p95: timedelta | None = None
    waited: timedelta | None = None
    queued: int | None = None
    running: int | None = None
    oldest: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """Points of equal length, the oldest first, with what they come to together."""

    step: timedelta
    points: tuple[Point, ...]
    total: Point

    @property
    def failure_rate(self) -> float | None:
        """Failed of those that completed or failed, 0 to 1; None without any."""
        return failure_rate(self.total)


@dataclass(frozen=True, slots=True)
class Volume:
    """A flow's last day by the hour: how many runs, how many failed, and its failure rate over all of it."""

    runs: tuple[int, ...]
    failed: tuple[int, ...]
    rate: float | None


def series(runtime: Runtime, flow: str = ALL, range: str = "24h") -> Series:
    """The figures of a flow ('' for all) over one of the ranges. Raises ValueError for another range."""
    if range not in RANGES:
        raise ValueError(f"range={range!r}: one of {', '.join(RANGES)}")
    length, step = RANGES[range]
    start, end, count = window(runtime, length, step)
    sums = {one.no: one.sums for one in figures_of(runtime.store, flow, start, step, end)}
    waiting = _backlog(runtime, flow, start, step, end)
    points = []
    for no in _COUNTED(count):
        point = _point(start + no * step, sums.get(no, {}))
        if (held := waiting.get(no)) is not None:
            oldest = None if held.oldest is None else timedelta(microseconds=held.oldest)
            point = _with_backlog(point, held.queued, held.running, oldest)
        points.append(point)
    together: dict[str, int] = {}
    for one in sums.values():
        for name, value in one.items():
            together[name] = together.get(name, 0) + value
    return Series(timedelta(microseconds=step), tuple(points), _point(start, together))


def _backlog(runtime: Runtime, flow: str, start: int, step: int, end: int) -> dict[int, BacklogView]:
    """By piece of time; where only others waited, a flow's own is nothing."""
    counted = {one.no: one for one in backlog_of(runtime.store, ALL, start, step, end)}
    if flow == ALL:
        return counted
    own = {one.no: one for one in backlog_of(runtime.store, flow, start, step, end)}
    return {no: own.get(no, BacklogView(no, 0, 0, None)) for no in counted}


def by_flow(runtime: Runtime, range: str = "24h") -> dict[str, Point]:
    """What each flow's figures come to over one of the ranges; flows without any are left out."""
    length, step = RANGES[range]
    start, end, _ = window(runtime, length, step)
    return {one.flow: _point(start, one.sums) for one in totals(runtime.store, start, end)}


def failure_rate(of: Point) -> float | None:
    """Failed of those that completed or failed, 0 to 1; None without any."""
    return _rate(of.failed, of.completed)


def last_day(runtime: Runtime) -> dict[str, Volume]:
    """Each flow's last 24 hours; flows without any run in them are left out."""
    start, end, count = window(runtime, DAY, HOUR)
    runs: dict[str, list[int]] = {}
    failed: dict[str, list[int]] = {}
    completed: dict[str, int] = {}
    for one in volumes(runtime.store, start, HOUR, end):
        runs.setdefault(one.flow, [0] * count)[one.no] = one.sums["made"]
        failed.setdefault(one.flow, [0] * count)[one.no] = one.sums["failed"]
        completed[one.flow] = completed.get(one.flow, 0) + one.sums["completed"]
    return {
        flow: Volume(tuple(runs[flow]), tuple(failed[flow]), _rate(sum(failed[flow]), completed[flow])) for flow in runs
    }


def quantile(classes: Sequence[int], share: float) -> timedelta | None:
    """How long that share of the runs took at most, within its class in proportion."""
    total = sum(classes)
    if not total:
        return None
    wanted, seen = share * total, 0
    for i, count in enumerate(classes):
        if seen + count >= wanted and count:
            low = BOUNDS[i - 1] if i else 0
            high = BOUNDS[i] if i < len(BOUNDS) else BOUNDS[-1] * 2
            return timedelta(microseconds=round(low + (high - low) * ((wanted - seen) / count)))
        seen += count
    return timedelta(microseconds=BOUNDS[-1] * 2)


def window(runtime: Runtime, length: int, step: int) -> tuple[int, int, int]:
    """From when, until when, and how many pieces; the last one is the one at hand."""
    with runtime.store.connection() as connection:
        now = connection.now()
    end = now - now % step + step
    return end - length, end, length // step


def _point(at: int, sums: Mapping[str, int]) -> Point:
    classes = [sums.get(name, 0) for name in CLASSES]
    started = sums.get("started", 0)
    return Point(
        at=to_datetime(at),
        made=sums.get("made", 0),
        unfinished=sums.get("unfinished", 0),
        completed=sums.get("completed", 0),
        failed=sums.get("failed", 0),
        cancelled=sums.get("cancelled", 0),
        skipped=sums.get("skipped", 0),
        p50=quantile(classes, 0.5),
        p95=quantile(classes, 0.95),
        waited=timedelta(microseconds=sums["waited"] // started) if started else None,
    )


def _with_backlog(point: Point, queued: int, running: int, oldest: timedelta | None) -> Point:
    return replace(point, queued=queued, running=running, oldest=oldest)


def _rate(failed: int, completed: int) -> float | None:
    return failed / (failed + completed) if failed + completed else None
