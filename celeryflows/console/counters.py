"""What a monitor counts: runs, steps, events, retries, lost turns, skips; how long runs took, and waited. All of it
stands in the store and only grows, so that every process that serves it tells the same."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from celeryflows.console.gauges import Gauge
from celeryflows.durations import SECOND
from celeryflows.engine.limits_in_use import declared_limits, limits_in_use
from celeryflows.engine.runtime import Runtime
from celeryflows.store.figure_tables import BOUNDS, CLASSES
from celeryflows.store.totals import LOST

ENDS = ("completed", "failed", "cancelled", "skipped")
SKIPS = {"rate_limited": "rate limit", "singletons": "singleton", "duplicates": "duplicate", "paused": "paused"}
BY_FLOW = (
    ("made", "celeryflows_runs_created_total", "Runs made, skipped ones among them."),
    ("started", "celeryflows_runs_started_total", "Runs whose first turn began."),
    ("steps", "celeryflows_steps_total", "Steps recorded, once for each step of a run."),
    ("retries", "celeryflows_retries_total", "Failed attempts of steps and bodies after which another came."),
    (LOST, "celeryflows_turns_lost_total", "Turns that were lost with their process or worker, and queued again."),
)
# Every second class is told: four times as long each.
EACH = 2


@dataclass(frozen=True, slots=True)
class Spread:
    """How long something took: how many within each bound in seconds (the last is infinite), and all of it together.
    Without bounds: how many, and all of it together."""

    name: str
    help: str
    labels: Mapping[str, str]
    buckets: tuple[tuple[float, int], ...]
    count: int
    seconds: float


def counters(runtime: Runtime) -> list[Gauge | Spread]:
    """All of them, some seconds old at most for runs and events, and about a minute for steps. Raises StoreError."""
    with runtime.store.connection() as connection:
        totals = connection.totals.all()
    found: list[Gauge | Spread] = []
    for key, name, told in BY_FLOW:
        found += [Gauge(name, told, its[key], {"flow": flow}) for flow, its in totals.items() if flow and key in its]
    for flow, its in totals.items():
        if flow:
            found += _of_flow(flow, its)
    told = "Events stored, but for those of crons and calls."
    return [*found, Gauge("celeryflows_events_total", told, totals.get("", {}).get("events", 0))]


def _of_flow(flow: str, its: Mapping[str, int]) -> Iterator[Gauge | Spread]:
    for status in ENDS:
        told = "Runs ended, by how."
        yield Gauge("celeryflows_runs_ended_total", told, its.get(status, 0), {"flow": flow, "status": status})
    for key, by in SKIPS.items():
        if its.get(key):
            told = "Runs skipped, by what skipped them."
            yield Gauge("celeryflows_runs_skipped_total", told, its[key], {"flow": flow, "by": by})
    took = "How long runs that completed or failed took, from their first turn on."
    buckets, count = _buckets(its), sum(its.get(name, 0) for name in CLASSES)
    labels, seconds = {"flow": flow}, its.get("took", 0) / SECOND
    yield Spread("celeryflows_run_duration_seconds", took, labels, buckets, count, seconds)
    delay = "How long runs waited for their first turn."
    waited = its.get("waited", 0) / SECOND
    yield Spread("celeryflows_run_start_delay_seconds", delay, labels, (), its.get("started", 0), waited)


def _buckets(its: Mapping[str, int]) -> tuple[tuple[float, int], ...]:
    found, seen = [], 0
    for i, name in enumerate(CLASSES):
        seen += its.get(name, 0)
        if i < len(BOUNDS) and i % EACH == 0:
            found.append((BOUNDS[i] / SECOND, seen))
    return (*found, (float("inf"), seen))


def limit_gauges(runtime: Runtime) -> Iterator[Gauge]:
    """Limits as they stand: all values of a key together, so that their number bounds nobody's monitor."""
    with runtime.store.connection() as connection:
        declared = declared_limits(runtime.catalog.read(connection))
        uses = {one.limit_id: one for one in limits_in_use(connection)}
    known = {limit.id: limit for its in declared.values() for limit in its}
    for limit in known.values():
        use = uses.get(limit.id)
        of = {"flow": limit.flow, "kind": limit.kind, "scope": limit.scope, "key": limit.key or ""}
        waiting = use.waiting if use is not None else 0
        yield Gauge("celeryflows_limit_waiting", "Units that wait at a limit, over all values of its key.", waiting, of)
        if limit.capacity is not None:
            used, fullest = (use.used, use.fullest) if use is not None else (0, 0)
            yield Gauge("celeryflows_limit_used", "Units inside a limit, over all values of its key.", used, of)
            yield Gauge("celeryflows_limit_fullest", "Units inside a limit at its fullest value.", fullest, of)
            told = "How many a limit lets in for each value of its key."
            yield Gauge("celeryflows_limit_capacity", told, limit.capacity, of)
