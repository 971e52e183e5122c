"""Routing: in the transaction that stores an event, the runs it starts and the waits it answers.

Locks in the order of store/schema: names, stripes, once, runs, waits. Each look is a later statement than its lock."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from celeryflows.engine import telling
from celeryflows.engine.catalog import Snapshot
from celeryflows.engine.matching import Verdict, judged, wait_hashes
from celeryflows.engine.runtime import Runtime
from celeryflows.errors import StoreError
from celeryflows.ids import derived_id, new_id
from celeryflows.model.events import StoredEvent
from celeryflows.model.flows import FlowDefinition
from celeryflows.model.runs import Delivery, NewRun, Status
from celeryflows.store.connection import Connection

logger = logging.getLogger("celeryflows")

Also = Callable[[Connection], None]


@dataclass(slots=True)
class Routed:
    """What a routing left to do after its commit: messages to send, news to tell, wide fan-outs to go on with."""

    deliveries: list[Delivery] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    pieces: dict[str, str] = field(default_factory=dict)
    events: list[StoredEvent] = field(default_factory=list)
    runs: list[NewRun] = field(default_factory=list)


def deliver(
    runtime: Runtime, events: Sequence[StoredEvent], also: Also | None = None, sender: str | None = None
) -> None:
    """Store and route new events, then send the messages. `also` writes in the same transaction, after the routing,
    to the run that sends: it is locked with those that the events answer.

    A reply that was lost is recognised by the events' ids, so that nothing is routed twice.
    """
    tried: list[Routed] = []

    def work(tx: Connection) -> Routed:
        routed = _route_new(runtime, tx, events, sender, again=bool(tried))
        if routed is None:
            return tried[-1]
        tried.append(routed)
        if also is not None:
            also(tx)
        return routed

    _after(runtime, runtime.store.transact(work))


def route_stored(runtime: Runtime, event_id: str) -> bool:
    """Route an event that was stored without: an outbox's, or what a crash left. False when it was routed before."""

    def work(tx: Connection) -> Routed | None:
        event = tx.events.get(event_id)
        if event is None:
            return None
        catalog, hashes = _prepare(runtime, tx, [event])
        waits = _waits(runtime, tx, event, hashes[event.id])
        if not tx.events.arrive(event_id, "" if waits is None else None):
            return None
        routed = Routed()
        _start_runs(runtime, tx, catalog, [event], routed)
        _answer(tx, waits or (), routed)
        if waits is None:
            routed.pieces[event.id] = ""
        return routed

    routed = runtime.store.transact(work)
    if routed is None:
        return False
    _after(runtime, routed)
    return True


def route_pieces(runtime: Runtime, event_id: str, piece: str) -> None:
    """Go on with a wide fan-out, a bounded piece a transaction, until all waits armed before the event are answered."""
    at: str | None = piece
    while at is not None:
        at = _route_piece(runtime, event_id, at)


def _route_piece(runtime: Runtime, event_id: str, piece: str) -> str | None:
    most = runtime.settings.fan_out_piece

    def work(tx: Connection) -> tuple[Routed, str | None]:
        event, arrived = tx.events.get(event_id), tx.events.arrived_at(event_id)
        if event is None or arrived is None:
            return Routed(), None
        hashes = wait_hashes(event, tx.waits.shapes([event.name]).get(event.name, ()))
        # A wait armed later has looked for itself, and must not be answered by a piece.
        waits = tx.waits.open_for(event.name, hashes, after=piece, armed_by=arrived, limit=most)
        rest = waits[-1].id if len(waits) == most else None
        if not tx.events.move_piece(event_id, piece, rest):
            return Routed(), None
        routed = Routed()
        _answer(tx, judged(event, waits), routed)
        return routed, rest

    routed, rest = runtime.store.transact(work)
    _after(runtime, routed)
    return rest


def _after(runtime: Runtime, routed: Routed) -> None:
    if routed.deliveries:
        runtime.dispatcher.send_runs(routed.deliveries)
    for run_id, reason in routed.skipped.items():
        runtime.dispatcher.run_cancelled(run_id, reason)
    telling.routed(routed.events, routed.runs)
    for event_id, piece in routed.pieces.items():
        with left_to_recovery():
            route_pieces(runtime, event_id, piece)


@contextmanager
def left_to_recovery() -> Iterator[None]:
    """After a commit an outage is no error of the caller: what it stops, the sweeper does."""
    try:
        yield
    except StoreError as error:
        logger.warning("what is committed is routed later: %s", error)


def _route_new(
    runtime: Runtime, tx: Connection, events: Sequence[StoredEvent], sender: str | None, *, again: bool
) -> Routed | None:
    """None when an earlier try has stored them: it was committed, or was about to be, when its reply was lost."""
    catalog, hashes = _prepare(runtime, tx, events)
    routed = Routed()
    verdicts: list[Verdict] = []
    for event in events:
        waits = _waits(runtime, tx, event, hashes[event.id])
        if waits is None:
            routed.pieces[event.id] = ""
        else:
            verdicts += waits
    # An insert waits for the other try's commit, where a look would miss it.
    if again and not tx.events.add_new(events[0], routed.pieces.get(events[0].id)):
        return None
    tx.events.add(events, routed.pieces)
    _start_runs(runtime, tx, catalog, events, routed)
    _answer(tx, verdicts, routed, sender)
    return routed


def _prepare(runtime: Runtime, tx: Connection, events: Sequence[StoredEvent]) -> tuple[Snapshot, dict[str, list[int]]]:
    names = sorted({event.name for event in events})
    tx.locks.share_names(names)
    shapes, version = tx.waits.shapes_and_version(names)
    catalog = runtime.catalog.read(tx, version)
    hashes = {event.id: wait_hashes(event, shapes.get(event.name, ())) for event in events}
    tx.locks.share_stripes(h for found in hashes.values() for h in found)
    return catalog, hashes


def _waits(runtime: Runtime, tx: Connection, event: StoredEvent, hashes: Sequence[int]) -> list[Verdict] | None:
    """What the event is to the waits that it may concern; None when it answers too many for one transaction."""
    if not hashes:
        return []
    candidates = runtime.settings.lookback_candidates
    waits = tx.waits.open_for(event.name, hashes, limit=candidates + 1)
    if len(waits) > candidates:
        return None
    found = judged(event, waits)
    return None if sum(one.answers for one in found) > runtime.settings.fan_out_at_once else found


def _start_runs(
    runtime: Runtime, tx: Connection, catalog: Snapshot, events: Sequence[StoredEvent], routed: Routed
) -> None:
    now = runtime.clock.now()
    starts: list[tuple[StoredEvent, FlowDefinition]] = []
    for event in events:
        found = catalog.index.starts(event)
        starts += [(event, flow) for flow in found.flows]
        if found.problems:
            tx.events.note_problem(event.id, "; ".join(found.problems))
    runs = [_new_run(event, flow, now) for event, flow in starts]
    runs = _without_duplicates(runtime, tx, starts, runs)
    if runs:
        tx.runs.add(runs)
    routed.events += events
    routed.runs += runs
    routed.deliveries += [run.delivery for run in runs if run.status is Status.QUEUED]
    routed.skipped |= {run.id: run.reason or "skipped" for run in runs if run.status is Status.SKIPPED}


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


def _without_duplicates(
    runtime: Runtime, tx: Connection, starts: Sequence[tuple[StoredEvent, FlowDefinition]], runs: Sequence[NewRun]
) -> list[NewRun]:
    """A sender's event id starts each flow once; a repeat becomes a skipped run that names the first."""
    keyed = [
        (derived_id("event", flow.name, event.ext_id), i)
        for i, (event, flow) in enumerate(starts)
        if event.ext_id is not None
    ]
    checked = list(runs)
    for key, i in sorted(keyed):
        run = runs[i]
        if not tx.once.take(key, run.id, runtime.settings.dedupe):
            first = tx.once.holder(key)
            checked[i] = NewRun(
                id=run.id,
                flow=run.flow,
                version=run.version,
                status=Status.SKIPPED,
                event_id=run.event_id,
                reason=f"duplicate: event id {starts[i][0].ext_id!r} has started run {first}",
            )
    return checked


def _answer(tx: Connection, verdicts: Sequence[Verdict], routed: Routed, sender: str | None = None) -> None:
    """One event answers every wait that matches; of several events the first to match consumes a wait."""
    runs = {one.wait.run_id for one in verdicts if one.answers}
    if runs:
        tx.runs.lock(sorted(runs | ({sender} if sender else set())))
    woken: set[str] = set()
    # By wait, as everybody who holds waits; for each wait the events keep their order.
    for one in sorted(verdicts, key=lambda one: one.wait.id):
        if one.problem:
            tx.waits.note_problem(one.wait.id, one.problem)
        if one.answers and (run := tx.waits.answer(one.wait.id, one.event.id)) is not None:
            woken.add(run)
    if woken:
        routed.deliveries += tx.runs.queue_answered(sorted(woken))
