"""One time axis for bars of milliseconds beside sleeps of days: what only waits is drawn shorter than it was."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from flask_dashboard.presenters.moments import length

# Labels nearer to each other than so many per cent would cover one another.
APART = 13.0
# A wait is as wide as this part of all work, at most; and so much wider than drawn it must be to be called a break.
REST_SHARE, BREAK = 0.35, 4.0
TICKS = (0.0, 0.25, 0.5, 0.75)


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of time. `works`: something ran in it."""

    start: datetime
    end: datetime
    works: bool


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment on the axis at `x` per cent; `label` is the time since the start, or how long a break was."""

    x: float
    label: str


@dataclass(frozen=True, slots=True)
class Axis:
    """Maps moments to per cents from left to right; `breaks` are where time was folded, `zero` from when its marks
    count."""

    zero: datetime
    _points: tuple[datetime, ...]
    _places: tuple[float, ...]
    breaks: tuple[Mark, ...]

    def x(self, moment: datetime) -> float:
        """The place of a moment, 0 to 100."""
        if moment <= self._points[0]:
            return 0.0
        if moment >= self._points[-1]:
            return 100.0
        i = bisect_right(self._points, moment) - 1
        (a, b), (left, right) = self._points[i : i + 2], self._places[i : i + 2]
        return round(left + (right - left) * ((moment - a) / (b - a)), 3)

    def ticks(self) -> tuple[Mark, ...]:
        """Times since the start at a quarter each."""
        return tuple(Mark(100 * share, self._label(100 * share)) for share in TICKS)

    def _label(self, x: float) -> str:
        if x == 0 and self._points[0] == self.zero:
            return "0"
        i = max(0, bisect_right(self._places, x) - 1)
        (a, b), (left, right) = self._points[i : i + 2], self._places[i : i + 2]
        return length(a + (b - a) * ((x - left) / (right - left)) - self.zero) if right > left else ""


def axis_of(
    spans: Sequence[Span], start: datetime, end: datetime, *, folded: bool = True, zero: datetime | None = None
) -> Axis:
    """The axis from `start` to `end`; `folded`: times in which nothing works are shortened."""
    end = max(end, start + timedelta(milliseconds=1))
    points = sorted({start, end, *(p for span in spans for p in (span.start, span.end) if start < p < end)})
    lengths = [(b - a).total_seconds() for a, b in pairwise(points)]
    busy = _busy(points, [span for span in spans if span.works])
    worked = sum(seconds for seconds, works in zip(lengths, busy, strict=True) if works)
    most = (worked or 0.02 * sum(lengths)) * REST_SHARE
    weights = [
        seconds if works or not folded else min(seconds, most) for seconds, works in zip(lengths, busy, strict=True)
    ]
    total, places, breaks = sum(weights), [0.0], []
    for seconds, weight in zip(lengths, weights, strict=True):
        left = places[-1]
        places.append(left + 100 * weight / total)
        if weight and seconds > BREAK * weight:
            breaks.append(Mark(round((left + places[-1]) / 2, 3), length(timedelta(seconds=seconds))))
    places[-1] = 100.0
    return Axis(zero or start, tuple(points), tuple(places), readable(breaks))


def readable(breaks: Sequence[Mark]) -> tuple[Mark, ...]:
    """The breaks, of which those that stand too near to the one before say nothing."""
    found: list[Mark] = []
    last = -APART
    for mark in breaks:
        if mark.x - last >= APART:
            last = mark.x
            found.append(mark)
        else:
            found.append(Mark(mark.x, ""))
    return tuple(found)


def _busy(points: Sequence[datetime], works: Sequence[Span]) -> list[bool]:
    """For each interval between points whether something works in it: one sweep, whatever their number."""
    changes: dict[datetime, int] = {}
    for span in works:
        changes[span.start] = changes.get(span.start, 0) + 1
        changes[span.end] = changes.get(span.end, 0) - 1
    level, found = sum(n for at, n in changes.items() if at < points[0]), []
    for point in points[:-1]:
        level += changes.get(point, 0)
        found.append(level > 0)
    return found
