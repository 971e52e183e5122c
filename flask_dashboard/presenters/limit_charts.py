"""Limits over time as charts: how much of each was in use, of how much, and how many waited."""

from collections.abc import Sequence

from celeryflows.console.limit_uses import DeclaredLimit, LimitSeries, UsePoint
from flask_dashboard.presenters.charts import NOTHING, Chart, chart_of, line_of


def limit_charts(found: Sequence[LimitSeries], *, named: bool = False) -> list[Chart]:
    """A chart for each limit; `named`: with the flow before it."""
    return [limit_chart(one, named=named) for one in found]


def limit_chart(series: LimitSeries, *, named: bool = False) -> Chart:
    """How much of a limit was in use, of how much, and how many waited. Of one with a key: its fullest value."""
    limit, points = series.limit, series.points
    counts = [n for p in points for n in (p.fullest, p.waiting, p.capacity) if n is not None]
    most = max(counts, default=0)
    lines = [line_of("queued", points, lambda p: p.waiting, most)]
    looks = [("queued", "waiting")]
    if limit.capacity is not None:
        lines += [
            line_of("capacity", points, lambda p: p.capacity if p.used is not None else None, most),
            line_of("running", points, lambda p: p.fullest, most),
        ]
        looks = [("running", "fullest key" if limit.key else "in use"), ("capacity", "limit"), *looks]
    last = next((p for p in reversed(points) if p.used is not None), None)
    now = _used(limit, last) if last is not None else NOTHING
    words = ["not counted" if p.used is None else _use_words(limit, p) for p in points]
    title = f"{limit.kind} by {limit.key}" if limit.key else limit.kind
    whose = f"{limit.flow}: " if limit.scope == "flow" else "shared: "
    return chart_of(
        f"{whose}{title}" if named else title[:1].upper() + title[1:], series, (), lines, words, f"{most:,}", now, looks
    )


def _used(limit: DeclaredLimit, point: UsePoint) -> str:
    if limit.capacity is None:
        return f"{point.waiting:,} waiting"
    return f"{point.fullest:,} of {point.capacity or limit.capacity:,}"


def _use_words(limit: DeclaredLimit, point: UsePoint) -> str:
    if limit.capacity is None:
        return f"{point.waiting:,} waiting"
    over = f" over {point.keys:,} keys, the fullest" if limit.key else ""
    used = f"{point.used:,} in use{over} {_used(limit, point)}" if limit.key else f"{_used(limit, point)} in use"
    return f"{used}, {point.waiting:,} waiting"
