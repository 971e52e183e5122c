"""Figures as shapes of an SVG: bars that stand on each other, and lines. Numbers alone leave this file as text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from celeryflows.console.figures import Point, Series
from flask_dashboard.presenters.moments import length

P = TypeVar("P")
NOTHING = "\N{EN DASH}"
HEIGHT, WIDTH = 100.0, 10.0


class Piece(Protocol):
    """A piece of time."""

    @property
    def at(self) -> datetime: ...


class Pieces(Protocol):
    """What a chart is drawn of."""

    @property
    def points(self) -> Sequence[Piece]: ...


@dataclass(frozen=True, slots=True)
class Rect:
    """A bar of the chart."""

    look: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the chart: the `points` of polylines, one for each stretch without gaps."""

    look: str
    stretches: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """One piece of time: where it stands, and what is to be read of it."""

    x: float
    at: datetime
    words: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart of `width` by 100; `top` says what its upper edge stands for, `now` the figure beside its title."""

    title: str
    width: float
    rects: tuple[Rect, ...]
    lines: tuple[Line, ...]
    columns: tuple[Column, ...]
    top: str
    now: str
    looks: tuple[tuple[str, str], ...]


def runs_chart(series: Series) -> Chart:
    """How many runs were made, by what became of them."""
    looks = (
        ("completed", "done"),
        ("failed", "failed"),
        ("other", "other"),
        ("open", "open"),
    )
    parts = [(p.completed, p.failed, p.cancelled + p.skipped, p.unfinished) for p in series.points]
    most = max((sum(part) for part in parts), default=0)
    rects = [rect for i, part in enumerate(parts) for rect in _stack(i, part, [look for look, _ in looks], most)]
    words = [
        f"{p.made:,} runs: {p.completed:,} completed, {p.failed:,} failed, {p.unfinished:,} under way"
        for p in series.points
    ]
    return chart_of("Runs", series, rects, (), words, f"{most:,}", f"{series.total.made:,}", looks)


def failures_chart(series: Series) -> Chart:
    """The share of runs that failed."""
    rates = [p.failed / (p.failed + p.completed) if p.failed + p.completed else 0.0 for p in series.points]
    most = max(rates, default=0.0)
    rects = [rect for i, rate in enumerate(rates) for rect in _stack(i, (rate,), ["failed"], most)]
    words = [
        f"{percent(rate)} of {p.failed + p.completed:,} failed" for rate, p in zip(rates, series.points, strict=True)
    ]
    now = NOTHING if series.failure_rate is None else percent(series.failure_rate)
    return chart_of("Failure rate", series, rects, (), words, percent(most) if most else "", now, ())


def duration_chart(series: Series) -> Chart:
    """How long runs took: half of them, and all but a twentieth."""
    most = max((p.p95.total_seconds() for p in series.points if p.p95 is not None), default=0.0)
    lines = (
        line_of("p95", series.points, lambda p: p.p95.total_seconds() if p.p95 is not None else None, most),
        line_of("p50", series.points, lambda p: p.p50.total_seconds() if p.p50 is not None else None, most),
    )
    words = [f"p50 {length(p.p50) or NOTHING}, p95 {length(p.p95) or NOTHING}" for p in series.points]
    now = length(series.total.p50) or NOTHING
    return chart_of("Duration", series, (), lines, words, _span(most), now, (("p50", "p50"), ("p95", "p95")))


def delay_chart(series: Series) -> Chart:
    """How long runs waited for their first turn, on the average."""
    most = max((p.waited.total_seconds() for p in series.points if p.waited is not None), default=0.0)
    line = line_of("delay", series.points, lambda p: p.waited.total_seconds() if p.waited is not None else None, most)
    words = [f"{length(p.waited) or NOTHING} from queued to started" for p in series.points]
    now = length(series.total.waited) or NOTHING
    return chart_of("Start delay", series, (), (line,), words, _span(most), now, ())


def backlog_chart(series: Series) -> Chart:
    """The most that waited and worked at once."""
    counts = [n for p in series.points for n in (p.queued, p.running) if n is not None]
    most = max(counts, default=0)
    lines = (
        line_of("queued", series.points, lambda p: p.queued, most),
        line_of("running", series.points, lambda p: p.running, most),
    )
    words = [
        "not counted"
        if p.queued is None
        else f"{p.queued:,} queued, {p.running:,} running, oldest {length(p.oldest) or NOTHING}"
        for p in series.points
    ]
    known = [p for p in series.points if p.queued is not None]
    now = f"{known[-1].queued:,}" if known else NOTHING
    return chart_of(
        "Backlog", series, (), lines, words, f"{most:,}", now, (("queued", "queued"), ("running", "running"))
    )


def oldest_chart(series: Series) -> Chart:
    """How long the one that waited longest had waited."""
    ages = [_age(p) for p in series.points]
    most = max((age for age in ages if age is not None), default=0.0)
    line = line_of("queued", series.points, _age, most)
    words = ["not counted" if age is None else f"oldest {length(timedelta(seconds=age))}" for age in ages]
    known = [age for age in ages if age is not None]
    now = length(timedelta(seconds=known[-1])) if known else NOTHING
    return chart_of("Oldest waiting", series, (), (line,), words, _span(most), now, ())


def _age(point: Point) -> float | None:
    if point.queued is None:
        return None
    return point.oldest.total_seconds() if point.oldest is not None else 0.0


def spark(runs: Sequence[int], failed: Sequence[int]) -> tuple[Rect, ...]:
    """A small chart of a day: runs, and on the ground those that failed."""
    most = max(runs, default=0)
    parts = [(f, max(0, n - f)) for n, f in zip(runs, failed, strict=True)]
    return tuple(rect for i, part in enumerate(parts) for rect in _stack(i, part, ["failed", "made"], most))


def percent(share: float) -> str:
    """A share: 12 %, 0.4 %."""
    return f"{100 * share:.0f} %" if share >= 0.1 or share == 0 else f"{100 * share:.1f} %"


def chart_of(
    title: str,
    series: Pieces,
    rects: Sequence[Rect],
    lines: Sequence[Line],
    words: Sequence[str],
    top: str,
    now: str,
    looks: Sequence[tuple[str, str]],
) -> Chart:
    """A chart over pieces of time, each with words of its own."""
    columns = tuple(Column(i * WIDTH, p.at, w) for i, (p, w) in enumerate(zip(series.points, words, strict=True)))
    width = WIDTH * len(series.points)
    return Chart(title, width, tuple(rects), tuple(lines), columns, top if top != "0" else "", now, tuple(looks))


def _stack(i: int, parts: Sequence[float], looks: Sequence[str], most: float) -> list[Rect]:
    found, y = [], HEIGHT
    for part, look in zip(parts, looks, strict=True):
        if part and most:
            # What is there is seen, however small beside the rest.
            height = max(1.5, HEIGHT * part / most)
            y -= height
            found.append(Rect(look, i * WIDTH + WIDTH * 0.12, round(max(0.0, y), 2), WIDTH * 0.76, round(height, 2)))
    return found


def line_of(look: str, points: Sequence[P], value: Callable[[P], float | None], most: float) -> Line:
    """A line through the values, up to the most of them; where there is none, it has a gap."""
    stretches: list[list[str]] = [[]]
    for i, point in enumerate(points):
        found = value(point)
        if found is None:
            stretches.append([])
        else:
            y = HEIGHT - HEIGHT * found / most if most else HEIGHT
            stretches[-1].append(f"{i * WIDTH + WIDTH / 2:.1f},{y:.2f}")
    # A point alone is a dash.
    drawn = (s if len(s) > 1 else [s[0], _right_of(s[0])] for s in stretches if s)
    return Line(look, tuple(" ".join(s) for s in drawn))


def _right_of(point: str) -> str:
    x, _, y = point.partition(",")
    return f"{float(x) + WIDTH / 2:.1f},{y}"


def _span(seconds: float) -> str:
    return length(timedelta(seconds=seconds)) if seconds else ""
