"""What a monitor measures: workers, queues, runs, what is late, what was refused. Each a number with its labels."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from celeryflows.console.audit import counts
from celeryflows.console.crew import crew
from celeryflows.console.figures import ALL, last_day, series
from celeryflows.durations import SECOND, to_datetime
from celeryflows.engine.runtime import Runtime
from celeryflows.store.reports.health import overdue, unrouted

# What recovery takes up by itself is late only after that.
LATE_AFTER = 5 * SECOND


@dataclass(frozen=True, slots=True)
class Gauge:
    """One measure, and what it tells in a sentence."""

    name: str
    help: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


def gauges(runtime: Runtime) -> list[Gauge]:
    """All measures as they stand now. Raises StoreError."""
    with runtime.store.connection() as connection:
        now = connection.now()
    return [*_crew(runtime, to_datetime(now)), *_runs(runtime), *_late(runtime, now), *_counted(runtime)]


def is_ready(runtime: Runtime) -> None:
    """Ask the store. Raises StoreError when it cannot be used."""
    with runtime.store.connection() as connection:
        connection.now()


def _crew(runtime: Runtime, now: datetime) -> Iterator[Gauge]:
    found = crew(runtime)
    for state in ("alive", "silent"):
        count = sum(hand.worker.alive == (state == "alive") for hand in found.hands)
        yield Gauge("celeryflows_workers", "Worker processes by state.", count, {"state": state})
    leaders = sum(hand.worker.leads for hand in found.hands)
    yield Gauge("celeryflows_leaders", "Workers that do timers, crons and recovery: 1 when all is well.", leaders)
    deaf = sum(hand.deaf for hand in found.hands)
    yield Gauge("celeryflows_workers_not_consuming", "Living workers that take nothing though something waits.", deaf)
    for queue in found.queues:
        of = {"queue": queue.name}
        yield Gauge("celeryflows_queue_waiting_runs", "Runs that wait for a worker.", queue.waiting, of)
        if queue.messages is not None:
            told = "Messages in the broker's queue that no worker has taken, those of plain tasks too."
            yield Gauge("celeryflows_queue_broker_messages", told, queue.messages, of)
        oldest = 0.0 if queue.oldest is None else max(0.0, (now - queue.oldest).total_seconds())
        yield Gauge("celeryflows_queue_oldest_seconds", "How long the oldest of them has waited.", oldest, of)


def _runs(runtime: Runtime) -> Iterator[Gauge]:
    for flow, volume in sorted(last_day(runtime).items()):
        of = {"flow": flow}
        yield Gauge("celeryflows_runs_last_day", "Runs made in the last 24 hours.", sum(volume.runs), of)
        yield Gauge("celeryflows_failed_last_day", "Runs of those that failed.", sum(volume.failed), of)
    total = series(runtime, ALL, "1h").total
    ended = (("completed", total.completed), ("failed", total.failed), ("cancelled", total.cancelled))
    for outcome, count in (*ended, ("skipped", total.skipped), ("unfinished", total.unfinished)):
        of = {"outcome": outcome}
        yield Gauge("celeryflows_runs_last_hour", "Runs made in the last hour by what became of them.", count, of)
    for percentile, took in (("50", total.p50), ("95", total.p95)):
        if took is not None:
            told = "How long runs of the last hour took."
            yield Gauge("celeryflows_run_seconds_last_hour", told, took.total_seconds(), {"percentile": percentile})


def _late(runtime: Runtime, now: int) -> Iterator[Gauge]:
    timers = overdue(runtime.store, now - LATE_AFTER).count
    yield Gauge("celeryflows_timers_late", "Runs that should have been woken 5 s ago or earlier.", timers)
    events = unrouted(runtime.store, now - LATE_AFTER).count
    yield Gauge("celeryflows_events_unrouted", "Events stored 5 s ago or earlier that started nothing yet.", events)


def _counted(runtime: Runtime) -> Iterator[Gauge]:
    for name, count in counts(runtime).items():
        subject, _, source = name.partition(" refused ")
        if subject == "hook":
            of = {"source": source}
            yield Gauge("celeryflows_hook_refused_total", "Calls of webhooks with a bad signature.", count, of)
