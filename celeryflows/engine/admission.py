"""Admission: new runs are written here, whoever starts them: now, later, or skipped, with what may cancel them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from celeryflows.engine.catalog import Snapshot
from celeryflows.engine.runtime import Runtime
from celeryflows.ids import derived_id, new_id
from celeryflows.model.cancels import cancel_waits
from celeryflows.model.events import StoredEvent
from celeryflows.model.flows import FlowDefinition
from celeryflows.model.runs import NewRun, Status
from celeryflows.model.waits import OpenWait
from celeryflows.store.connection import Connection
from celeryflows.store.links import Link
from celeryflows.store.reruns import NewRerun

PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class Start:
    """A run to write and the event that starts it; `flow` is None for one that this process knows nothing of."""

    run: NewRun
    event: StoredEvent
    flow: FlowDefinition | None


@dataclass(frozen=True, slots=True)
class Admitted:
    """The runs as they were written, and what waits to cancel them."""

    runs: tuple[NewRun, ...] = ()
    cancels: tuple[OpenWait, ...] = ()


def a_start(runtime: Runtime, catalog: Snapshot, run: NewRun, event: StoredEvent) -> Start:
    """A start by the flow's name: as the store knows the flow, else as this process does."""
    mine = runtime.flows.get(run.flow)
    return Start(run, event, catalog.flows.get(run.flow) or (mine.definition if mine is not None else None))


def admit(tx: Connection, catalog: Snapshot, starts: Sequence[Start]) -> Admitted:
    """Write new runs, those of paused flows as skipped, and open what cancels them. Their events are stored already."""
    if not starts:
        return Admitted()
    runs = tuple(_as_flow_says(catalog, start) for start in starts)
    tx.runs.add(runs)
    cancels: list[OpenWait] = []
    for run, start in zip(runs, starts, strict=True):
        if start.flow is not None and start.flow.cancel_on and run.status is not Status.SKIPPED:
            waits = cancel_waits(start.flow.cancel_on, start.event.data)
            cancels += tx.cancels.arm(run.id, waits, start.event)
    return Admitted(runs, tuple(cancels))


def as_flow_says(runtime: Runtime, tx: Connection, run: NewRun) -> NewRun:
    """The run, skipped when its flow is paused as of now."""
    return _skipped(run) if run.flow in runtime.catalog.read(tx).paused else run


def add_linked(runtime: Runtime, tx: Connection, run: NewRun, event: StoredEvent, link: Link) -> None:
    """Write a run that belongs to another, with what its flow asks for it. Its event is stored already."""
    tx.links.add(run, link)
    flow = a_start(runtime, runtime.catalog.latest, run, event).flow
    if flow is not None and run.status is not Status.SKIPPED:
        _guard(tx, run.id, flow, event)


def _guard(tx: Connection, run_id: str, flow: FlowDefinition, event: StoredEvent) -> None:
    if flow.timeouts is not None and (within := flow.timeouts.start_us) is not None:
        tx.bounds.set_start([run_id], within)
    if flow.cancel_on:
        tx.cancels.arm(run_id, cancel_waits(flow.cancel_on, event.data), event)


def guard_again(runtime: Runtime, tx: Connection, runs: Sequence[NewRerun]) -> None:
    """What a rerun has of its flow: its cancel waits, and the bound of its start. The runs are written already."""
    flows = runtime.catalog.read(tx).flows
    bounded = [(run, flow) for run in runs if (flow := flows.get(run.flow)) and (flow.cancel_on or flow.timeouts)]
    if not bounded:
        return
    events = tx.events.many(run.event_id for run, _ in bounded)
    for run, flow in bounded:
        if (event := events.get(run.event_id)) is not None:
            _guard(tx, run.id, flow, event)


def _as_flow_says(catalog: Snapshot, start: Start) -> NewRun:
    run, flow = start.run, start.flow
    if run.status is Status.SKIPPED:
        return run
    if run.flow in catalog.paused:
        return _skipped(run)
    if flow is not None and flow.timeouts is not None:
        return replace(run, start_within=flow.timeouts.start_us)
    return run


def _skipped(run: NewRun) -> NewRun:
    return replace(run, status=Status.SKIPPED, reason=PAUSED, wake_at=None, expires_at=None)


def admit_started_by(runtime: Runtime, tx: Connection, catalog: Snapshot, events: Sequence[StoredEvent]) -> Admitted:
    """The runs that events start by their triggers."""
    now = runtime.clock.now()
    starts: list[Start] = []
    for event in events:
        found = catalog.index.starts(event)
        starts += [Start(_new_run(event, flow, now), event, flow) for flow in found.flows]
        if found.problems:
            tx.events.note_problem(event.id, "; ".join(found.problems))
    return admit(tx, catalog, _without_duplicates(runtime, tx, starts))


def _new_run(event: StoredEvent, flow: FlowDefinition, now: int) -> NewRun:
    later = event.ts > now
    return NewRun(
        id=new_id(),
        flow=flow.name,
        version=flow.version,
        status=Status.SCHEDULED if later else Status.QUEUED,
        event_id=event.id,
        wake_at=event.ts if later else None,
    )


def _without_duplicates(runtime: Runtime, tx: Connection, starts: Sequence[Start]) -> list[Start]:
    """A sender's event id starts each flow once; a repeat becomes a skipped run that names the first."""
    keyed = [
        (derived_id("event", start.run.flow, start.event.ext_id), i)
        for i, start in enumerate(starts)
        if start.event.ext_id is not None
    ]
    checked = list(starts)
    for key, i in sorted(keyed):
        start = starts[i]
        if not tx.once.take(key, start.run.id, runtime.settings.dedupe):
            reason = f"duplicate: event id {start.event.ext_id!r} has started run {tx.once.holder(key)}"
            checked[i] = replace(start, run=replace(start.run, status=Status.SKIPPED, reason=reason, wake_at=None))
    return checked
