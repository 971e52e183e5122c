"""Admission: new runs are written here, whoever starts them: now, later, or skipped, with what may cancel them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from celeryflows.engine.catalog import Snapshot
from celeryflows.engine.pipeline import Judged, bounded, judge
from celeryflows.engine.runtime import Runtime
from celeryflows.engine.starts import Start, a_start
from celeryflows.engine.window_writing import write_windows
from celeryflows.flow_control.singleton import replaced_reason
from celeryflows.ids import derived_id, new_id
from celeryflows.model.cancels import cancel_waits
from celeryflows.model.events import StoredEvent
from celeryflows.model.flows import FlowDefinition
from celeryflows.model.runs import NewRun, Status
from celeryflows.model.waits import OpenWait
from celeryflows.store.connection import Connection
from celeryflows.store.links import Link
from celeryflows.store.reruns import NewRerun


@dataclass(frozen=True, slots=True)
class Admitted:
    """The runs as they were written, and what waits to cancel them.

    `joined`: by the id that it was to have, the run that a start ended up in instead. `replaced`: runs that are to be
    cancelled now, each with the reason. `due`: runs whose batch is full by these; `paused`: those that were skipped
    then, for their flow is paused.
    """

    runs: tuple[NewRun, ...] = ()
    cancels: tuple[OpenWait, ...] = ()
    joined: Mapping[str, str] = field(default_factory=dict)
    replaced: Mapping[str, str] = field(default_factory=dict)
    due: tuple[str, ...] = ()
    paused: tuple[str, ...] = ()


def admit(runtime: Runtime, tx: Connection, catalog: Snapshot, starts: Sequence[Start]) -> Admitted:
    """Judge new starts by their flows' limits and write their runs. Their events are stored already."""
    return write(tx, judge(runtime, tx, catalog, starts)) if starts else Admitted()


def write(tx: Connection, judged: Judged) -> Admitted:
    """Write what was judged in this transaction: the new runs, what cancels them, and what changes for others."""
    if judged.others:
        tx.runs.lock(sorted(judged.others))
    written = [start for start in judged.starts if start.joined is None]
    tx.runs.add([start.run for start in written if start.link is None])
    cancels: list[OpenWait] = []
    for start in written:
        if start.link is not None:
            tx.links.add(start.run, start.link)
            if start.run.start_within is not None:
                tx.bounds.set_start([start.run.id], start.run.start_within)
        if start.flow is not None and start.flow.cancel_on and start.is_under_way:
            waits = cancel_waits(start.flow.cancel_on, start.event.data)
            cancels += tx.cancels.arm(start.run.id, waits, start.event)
    runs = tuple(start.run for start in written)
    if not any(start.limits for start in judged.starts):
        return Admitted(runs, tuple(cancels))
    joined = {start.run.id: start.joined for start in judged.starts if start.joined is not None}
    cancels += write_windows(tx, judged)
    replaced = {start.replaces: replaced_reason(start.run.id) for start in written if start.replaces is not None}
    for run_id, reason in sorted(replaced.items()):
        tx.singletons.replaced(run_id, reason)
    due = tuple(sorted(judged.full.keys() - judged.paused))
    return Admitted(runs, tuple(cancels), joined, replaced, due, tuple(sorted(judged.paused)))


def add_successor(runtime: Runtime, tx: Connection, run: NewRun, event: StoredEvent, link: Link) -> None:
    """Write the run that goes on for another: no limit but its gates, and no pause stops it."""
    write(tx, Judged([bounded(a_start(runtime, runtime.catalog.latest, run, event, link))]))


def _guard(tx: Connection, run_id: str, flow: FlowDefinition, event: StoredEvent) -> None:
    if flow.timeouts is not None and (within := flow.timeouts.start_us) is not None:
        tx.bounds.set_start([run_id], within)
    if flow.cancel_on:
        tx.cancels.arm(run_id, cancel_waits(flow.cancel_on, event.data), event)


def _to_the_door(tx: Connection, catalog: Snapshot, runs: Sequence[NewRerun]) -> None:
    """Asked for by hand, they pass throttle and concurrency alone: after the commit."""
    events = tx.events.many(run.event_id for run in runs)
    for run in runs:
        if (event := events.get(run.event_id)) is not None:
            tx.standings.to_the_door(run.id, [gate.name for gate in catalog.gates_of(run.flow, event)])


def guard_again(runtime: Runtime, tx: Connection, runs: Sequence[NewRerun]) -> None:
    """What a rerun has of its flow: its cancel waits, and the bound of its start. The runs are written already."""
    catalog = runtime.catalog.read(tx)
    flows = catalog.flows
    limited = [run for run in runs if catalog.has_gates(run.flow)]
    if limited:
        _to_the_door(tx, catalog, limited)
    bounded = [(run, flow) for run in runs if (flow := flows.get(run.flow)) and (flow.cancel_on or flow.timeouts)]
    if not bounded:
        return
    events = tx.events.many(run.event_id for run, _ in bounded)
    for run, flow in bounded:
        if (event := events.get(run.event_id)) is not None:
            _guard(tx, run.id, flow, event)


def admit_started_by(runtime: Runtime, tx: Connection, catalog: Snapshot, events: Sequence[StoredEvent]) -> Admitted:
    """The runs that events start by their triggers."""
    now = runtime.clock.now()
    starts: list[Start] = []
    for event in events:
        found = catalog.index.starts(event)
        starts += [Start(_new_run(runtime, event, flow, now), event, flow) for flow in found.flows]
        if found.problems:
            tx.events.note_problem(event.id, "; ".join(found.problems))
    return admit(runtime, tx, catalog, _without_duplicates(runtime, tx, starts))


def options_elsewhere(runtime: Runtime, flow: FlowDefinition) -> str | None:
    """The sending options of a flow whose code is elsewhere: this process has no task that would bring them."""
    return json.dumps(dict(flow.send)) if flow.send and flow.name not in runtime.flows else None


def _new_run(runtime: Runtime, event: StoredEvent, flow: FlowDefinition, now: int) -> NewRun:
    later = event.ts > now
    return NewRun(
        id=new_id(),
        flow=flow.name,
        version=flow.version,
        status=Status.SCHEDULED if later else Status.QUEUED,
        event_id=event.id,
        message=options_elsewhere(runtime, flow),
        wake_at=event.ts if later else None,
        event_name=event.name,
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
            checked[i] = start.skipped(reason)
    return checked
