"""Limits on the desk: each with its key, who is inside, how many may be, who waits and since when; and windows: what
waits until it is quiet, or until it is enough."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from celeryflows.durations import format_duration, to_datetime
from celeryflows.engine.catalog import Snapshot
from celeryflows.engine.runtime import Runtime
from celeryflows.flow_control.gates import shown_value
from celeryflows.flow_control.keys import key_of
from celeryflows.model.limits import NONE
from celeryflows.store.reports.limits import LineView, WindowView, lines, windows

NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class LimitSummary:
    """One limit with one value of its key. `used` of `capacity` turns are inside, of a batch: events; a throttle and a
    debounce have neither, but a `rate` and the moment of the next start, a batch that moment too. `waiting` units wait,
    the oldest since `oldest`. `capacity` None: the limit is no more declared."""

    kind: str
    flow: str
    scope: str
    key: str | None
    value: Any
    used: int
    capacity: int | None
    waiting: int
    oldest: datetime | None
    rate: str | None = None
    next_at: datetime | None = None


def limits(runtime: Runtime, *, flow: str | None = None, limit: int = 200) -> list[LimitSummary]:
    """What is held or waited for at limits, those where somebody waits longest first; of one flow only its own."""
    with runtime.store.connection() as connection:
        catalog = runtime.catalog.read(connection)
    found = [_summary(catalog, line) for line in lines(runtime.store, limit=limit)]
    found += [_of_window(catalog, one) for one in windows(runtime.store, limit=limit)]
    found.sort(key=lambda one: (one.oldest is None, one.oldest or NEVER))
    return [one for one in found[:limit] if flow is None or flow in (one.flow, *_sharing(catalog, one))]


def _summary(catalog: Snapshot, line: LineView) -> LimitSummary:
    value, oldest = shown_value(line.value), None if line.oldest is None else to_datetime(line.oldest)
    if line.limit_id is not None or not line.name.startswith("0"):
        limit = catalog.gates.limit(line.name)
        scope, key = (limit.scope, limit.key) if limit is not None else ("", None)
        number = catalog.gates.number(line.name)
        return LimitSummary("concurrency", line.flow, scope, key, value, line.used, number, line.waiting, oldest)
    flow = catalog.flows.get(line.flow)
    throttle = flow.limits.throttle if flow is not None else None
    rate = f"{throttle.limit} each {format_duration(throttle.json()['period'])}" if throttle is not None else None
    next_at = None if line.next_at is None else to_datetime(line.next_at)
    key = throttle.key if throttle is not None else None
    return LimitSummary("throttle", line.flow, "flow", key, value, 0, None, line.waiting, oldest, rate, next_at)


def _of_window(catalog: Snapshot, window: WindowView) -> LimitSummary:
    flow = catalog.flows.get(window.flow)
    limits = flow.limits if flow is not None else NONE
    limit = limits.debounce if window.kind == "debounce" else limits.batch
    expression = limit.key if limit is not None else None
    key = key_of(window.kind, window.flow, expression, catalog.scope(window.flow, window.event))
    shown = LimitSummary(
        window.kind,
        window.flow,
        "flow",
        expression,
        shown_value(key.value),
        used=0,
        capacity=None,
        waiting=window.count,
        oldest=to_datetime(window.since),
        next_at=to_datetime(window.closes_at),
    )
    if limits.batch is not None and window.kind == "batch":
        return replace(shown, used=window.count, capacity=limits.batch.max_size)
    if limits.debounce is not None and window.kind == "debounce":
        return replace(shown, rate=f"quiet for {format_duration(limits.debounce.period_us)}")
    return shown


def _sharing(catalog: Snapshot, one: LimitSummary) -> tuple[str, ...]:
    """The flows that share a limit of app scope."""
    if one.scope != "app":
        return ()
    return tuple(
        name
        for name, its in catalog.gates.by_flow.items()
        if any(limit.scope == "app" and limit.key == one.key for limit in its)
    )
