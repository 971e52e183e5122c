"""Cron without beat: each occurrence fires once across all workers, by a compare-and-set on its due time."""

import json
from dataclasses import replace

from celeryflows.durations import MINUTE, SECOND, to_datetime
from celeryflows.engine import telling
from celeryflows.engine.admission import Admitted, admit, options_elsewhere
from celeryflows.engine.routing import follow
from celeryflows.engine.runtime import Runtime
from celeryflows.engine.starts import Start
from celeryflows.ids import seeded_ids
from celeryflows.model.cron import jittered
from celeryflows.model.events import CRON_FIRED, StoredEvent
from celeryflows.model.flows import read_trigger
from celeryflows.model.runs import NewRun, Status
from celeryflows.model.triggers import OnCron
from celeryflows.store.connection import Connection
from celeryflows.store.crons import CronRow

ALL_AT_ONCE = 20


def fire_due(runtime: Runtime) -> int:
    """Start the runs of every cron whose time has come; how many were looked at."""
    with runtime.store.connection() as connection:
        due = connection.crons.due()
        now = connection.now() if due else 0
    for row in due:
        _fire(runtime, row, now)
    return len(due)


def occurrences_to_fire(cron: OnCron, due: int, now: int) -> tuple[list[int], int]:
    """By the missed policy: the due times to fire now, and the next one to look at. Pure.

    "latest" fires the last that is due, "all" each (20 at once), "skip" only one that is not older than a minute.
    """
    schedule = cron.schedule()
    if cron.missed == "all":
        fires = [due, *schedule.occurrences(due, now, ALL_AT_ONCE - 1)]
        return fires, schedule.next_after(fires[-1])
    last = max(due, schedule.previous_at_or_before(now) or due)
    fires = [] if cron.missed == "skip" and now - last >= MINUTE else [last]
    return fires, schedule.next_after(max(now, last))


def _fire(runtime: Runtime, row: CronRow, now: int) -> None:
    cron = read_trigger(json.loads(row.definition))
    if not isinstance(cron, OnCron) or row.next_at is None:
        return
    fires, following = occurrences_to_fire(cron, row.next_at, now)

    def work(tx: Connection) -> tuple[list[StoredEvent], Admitted]:
        if not tx.crons.advance(row, following):
            return [], Admitted()
        catalog = runtime.catalog.read(tx)
        flow = catalog.flows.get(row.flow)
        if flow is None:
            return [], Admitted()
        events = [_event(row, cron, due, now) for due in fires]
        # The one that leads may be of another service, without the flow's code.
        message = options_elsewhere(runtime, flow)
        runs = [replace(_run(row, cron, event, flow.version, now), message=message) for event in events]
        tx.events.add(events)
        starts = [Start(run, event, flow) for run, event in zip(runs, events, strict=True)]
        return events, admit(runtime, tx, catalog, starts)

    events, admitted = runtime.store.transact(work)
    follow(runtime, admitted)
    runs = admitted.runs
    for run in runs:
        if run.status is Status.SKIPPED:
            runtime.dispatcher.run_cancelled(run.id, run.reason or "skipped")
    if deliveries := [run.delivery for run in runs if run.may_start]:
        runtime.dispatcher.send_runs(deliveries)
    telling.routed(events, runs)


def _event(row: CronRow, cron: OnCron, due: int, now: int) -> StoredEvent:
    data = {
        "cron": cron.cron,
        "scheduled_at": to_datetime(due).isoformat(),
        "fired_at": to_datetime(now).isoformat(),
    }
    return StoredEvent(_id("event", row, due), None, CRON_FIRED, json.dumps(data), data, due, None)


def _id(of: str, row: CronRow, due: int) -> str:
    """The id follows from flow and moment: even a doubled fire is one event. It begins with the time, as all ids do."""
    return next(seeded_ids(due // 1000, f"{of}\0{row.flow}\0{row.trigger_no}".encode()))


def _run(row: CronRow, cron: OnCron, event: StoredEvent, version: str | None, now: int) -> NewRun:
    at = event.ts + jittered(row.flow, event.ts, cron.jitter_us()) if cron.jitter else event.ts
    # A jitter below a second is not worth a round through the timers.
    later = at > now + SECOND
    return NewRun(
        id=_id("run", row, event.ts),
        flow=row.flow,
        version=version,
        status=Status.SCHEDULED if later else Status.QUEUED,
        event_id=event.id,
        wake_at=at if later else None,
    )
