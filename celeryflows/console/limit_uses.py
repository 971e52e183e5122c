"""Limits over time on the desk: how much of each was in use, of how much, and how many waited."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from celeryflows.console.figures import ALL, RANGES, window
from celeryflows.durations import to_datetime
from celeryflows.engine.limits_in_use import DeclaredLimit as DeclaredLimit
from celeryflows.engine.limits_in_use import declared_limits
from celeryflows.engine.runtime import Runtime
from celeryflows.store.reports.figures import backlog_of
from celeryflows.store.reports.limit_uses import LimitUseView, limit_uses_of, most_waited_for

# So many charts are drawn of all limits.
MOST = 12


@dataclass(frozen=True, slots=True)
class UsePoint:
    """One piece of time, from `at` on: the most at once of what was `used` and what was `waiting`, over so many `keys`;
    `fullest` is the key that let in most, of the `capacity` that each has. None where nobody counted."""

    at: datetime
    used: int | None = None
    waiting: int | None = None
    keys: int = 0
    fullest: int | None = None
    capacity: int | None = None


@dataclass(frozen=True, slots=True)
class LimitSeries:
    """A limit with points of equal length, the oldest first."""

    limit: DeclaredLimit
    step: timedelta
    points: tuple[UsePoint, ...]


def limit_series(runtime: Runtime, range: str = "24h", *, flow: str | None = None) -> list[LimitSeries]:
    """The limits of a flow, or of all flows the twelve that most waited for. Raises ValueError for another range."""
    if range not in RANGES:
        raise ValueError(f"range={range!r}: one of {', '.join(RANGES)}")
    length, step = RANGES[range]
    start, end, count = window(runtime, length, step)
    found = _limits(runtime, flow, start, end)
    counted = {one.no for one in backlog_of(runtime.store, ALL, start, step, end)}
    uses: dict[tuple[str, int], LimitUseView] = {}
    for one in limit_uses_of(runtime.store, [limit.id for limit in found], start, step, end):
        uses[one.limit_id, one.no] = one
    return [_series(limit, uses, counted, start, step, count) for limit in found]


def _limits(runtime: Runtime, flow: str | None, start: int, end: int) -> Sequence[DeclaredLimit]:
    with runtime.store.connection() as connection:
        by_flow = declared_limits(runtime.catalog.read(connection))
    if flow is not None:
        return by_flow.get(flow, ())
    known = {limit.id: limit for its in by_flow.values() for limit in its}
    return [known[one] for one in most_waited_for(runtime.store, start, end, MOST) if one in known]


def _series(
    limit: DeclaredLimit,
    uses: dict[tuple[str, int], LimitUseView],
    counted: set[int],
    start: int,
    step: int,
    count: int,
) -> LimitSeries:
    points = []
    for no in range(count):
        at, one = to_datetime(start + no * step), uses.get((limit.id, no))
        if one is not None:
            points.append(UsePoint(at, one.used, one.waiting, one.gates, one.fullest, one.capacity))
        else:
            points.append(UsePoint(at, 0, 0, 0, 0, limit.capacity) if no in counted else UsePoint(at))
    return LimitSeries(limit, timedelta(microseconds=step), tuple(points))
