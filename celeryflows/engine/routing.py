"""Routing: in the transaction that stores an event, the runs it starts, the waits it answers, the runs it cancels.

Locks in the order of store/schema: names, stripes, once, runs, waits. Each look is a later statement than its lock."""

from collections.abc import Callable, Mapping, Sequence

from celeryflows.engine import telling
from celeryflows.engine.admission import Admitted, admit_started_by
from celeryflows.engine.aftermath import left_to_recovery
from celeryflows.engine.answering import Routed, answer, cancel_sender, later_in_list, sent_before
from celeryflows.engine.catalog import Snapshot
from celeryflows.engine.debts import pay
from celeryflows.engine.endings import Cancelled, cancel_within, committed, last_of
from celeryflows.engine.leaving import send_off, settle
from celeryflows.engine.matching import Verdict, judged, wait_hashes
from celeryflows.engine.pipeline import PAUSED
from celeryflows.engine.remote_tasks import recall
from celeryflows.engine.runtime import Runtime
from celeryflows.engine.waking import wake
from celeryflows.model.cancels import cancel_waits
from celeryflows.model.events import StoredEvent
from celeryflows.model.waits import match_hash
from celeryflows.store.branches import Unit
from celeryflows.store.connection import Connection, TransientError
from celeryflows.store.runs import Bound

Also = Callable[[Connection], None]


def deliver(
    runtime: Runtime,
    events: Sequence[StoredEvent],
    also: Also | None = None,
    sender: Unit | None = None,
    *,
    may_be_known: bool = False,
) -> bool:
    """Store and route new events, then send the messages. `also` writes in the same transaction, after the routing,
    to the run or branch that sends: it is locked with those that the events answer. False when they cancelled that run.

    A reply that was lost is recognised by the events' ids, so that nothing is routed twice. `may_be_known`: the same
    list may have been sent under the same ids by another process before.
    """
    tried: list[Routed] = []

    def work(tx: Connection) -> Routed:
        routed = _route_new(runtime, tx, events, sender, again=may_be_known or bool(tried))
        if routed is None:
            return tried[-1] if tried else Routed()
        tried.append(routed)
        if also is not None:
            also(tx)
        # What sends may be what its event cancels: its step is recorded first.
        cancel_sender(runtime, tx, routed)
        return routed

    routed = runtime.store.transact(work)
    _after(runtime, routed)
    return not routed.own


def route_stored(runtime: Runtime, event_id: str) -> bool:
    """Route an event that was stored without: an outbox's, or what a crash left. False when it was routed before."""
    tried: list[Routed] = []

    def work(tx: Connection) -> Routed | None:
        event = tx.events.get(event_id)
        if event is None:
            return None
        catalog, hashes = _prepare_late(runtime, tx, event)
        waits = _waits(runtime, tx, event, hashes)
        if not tx.events.arrive(event_id, "" if waits is None else None):
            return _told_again(tx, tried)
        routed = Routed()
        started = admit_started_by(runtime, tx, catalog, [event])
        routed.started([event], started)
        # What cancels them may have come before they did.
        verdicts = [*(waits or ()), *sent_before(runtime, tx, event, started.cancels)]
        answer(runtime, tx, verdicts, routed)
        if waits is None:
            routed.pieces[event.id] = ""
        tried.append(routed)
        return routed

    routed = runtime.store.transact(work)
    if routed is None:
        return False
    _after(runtime, routed)
    return True


def _told_again(tx: Connection, tried: list[Routed]) -> Routed | None:
    """After a try whose reply was lost: recovery sends the messages, but nobody else tells of what was cancelled."""
    if not tried:
        return None
    return Routed(cancelled=committed(tx, {one.run_id: one for one in tried[-1].cancelled}, ()))


def route_pieces(runtime: Runtime, event_id: str, piece: str) -> None:
    """Go on with a wide fan-out, a bounded piece a transaction, until all waits armed before the event are answered."""
    at: str | None = piece
    while at is not None:
        at = _route_piece(runtime, event_id, at)


def _route_piece(runtime: Runtime, event_id: str, piece: str) -> str | None:
    most = runtime.settings.fan_out_piece

    tried: list[tuple[Routed, str | None]] = []

    def work(tx: Connection) -> tuple[Routed, str | None]:
        event, arrived = tx.events.get(event_id), tx.events.arrived_at(event_id)
        if event is None or arrived is None:
            return Routed(), None
        hashes = wait_hashes(event, tx.waits.shapes([event.name]).get(event.name, ()))
        # A wait armed later has looked for itself, and must not be answered by a piece.
        waits = tx.waits.open_for(event.name, hashes, after=piece, armed_by=arrived, limit=most)
        rest = waits[-1].id if len(waits) == most else None
        if not tx.events.move_piece(event_id, piece, rest):
            return tried[-1] if tried else (Routed(), None)
        routed = Routed()
        answer(runtime, tx, judged(event, waits), routed)
        tried.append((routed, rest))
        return routed, rest

    routed, rest = runtime.store.transact(work)
    _after(runtime, routed)
    return rest


def end_replaced(runtime: Runtime, replaced: Mapping[str, str]) -> None:
    """Cancel the runs whose place others took; what is missed, the leader cancels."""
    for run_id, reason in replaced.items():
        with left_to_recovery():
            cancel_line(runtime, run_id, reason)


def follow(runtime: Runtime, admitted: Admitted) -> None:
    """After the commit, before the messages: what an admission did to other runs; what is missed, the leader does."""
    end_replaced(runtime, admitted.replaced)
    for run_id in admitted.paused:
        runtime.dispatcher.run_cancelled(run_id, PAUSED)
        pay(runtime, run_id, cancel_line)
    if admitted.due:
        with left_to_recovery():
            with runtime.store.connection() as connection:
                woken = wake(runtime, connection, admitted.due)
            send_off(runtime, woken.deliveries)


def _after(runtime: Runtime, routed: Routed) -> None:
    for admitted in routed.admitted:
        follow(runtime, admitted)
    send_off(runtime, routed.deliveries)
    for run_id, reason in routed.skipped.items():
        runtime.dispatcher.run_cancelled(run_id, reason)
    telling.routed(routed.events, routed.runs)
    tell_cancelled(runtime, routed.cancelled)
    for event_id, piece in routed.pieces.items():
        with left_to_recovery():
            route_pieces(runtime, event_id, piece)


def tell_cancelled(runtime: Runtime, cancelled: Sequence[Cancelled]) -> None:
    """Tell those who ask for the results of runs that were cancelled, and those who listen; free what they held, and
    revoke the tasks that they had sent."""
    recall(runtime, [one.run_id for one in cancelled])
    for one in cancelled:
        if one.row.is_limited:
            settle(runtime, [one.run_id])
        runtime.dispatcher.run_cancelled(one.run_id, one.reason, one.row.message)
        telling.cancelled(one.row, one.reason)
        if one.row.owes is not None:
            pay(runtime, one.run_id, cancel_line)
        if one.event is not None:
            with left_to_recovery():
                route_stored(runtime, one.event.id)


def cancel_runs(runtime: Runtime, reasons: Mapping[str, str], *, past: Bound | None = None) -> list[Cancelled]:
    """Cancel runs, each with its reason, in one transaction, and tell who asks; those that had not ended."""
    tried: dict[str, Cancelled] = {}

    def work(tx: Connection) -> list[Cancelled]:
        tx.runs.lock(sorted(reasons))
        found = cancel_within(runtime, tx, reasons, past=past)
        found += committed(tx, tried, found)
        tried.update({one.run_id: one for one in found})
        if past == "finish_by":
            tx.bounds.forget(list(reasons))
        return found

    cancelled = runtime.store.transact(work)
    tell_cancelled(runtime, cancelled)
    return cancelled


def cancel_line(runtime: Runtime, run_id: str, reason: str) -> Cancelled | None:
    """Cancel a run, or the one that goes on for it by now; None when it had ended."""
    while not (cancelled := cancel_runs(runtime, {run_id: reason})):
        last = last_of(runtime, run_id)
        if last == run_id:
            return None
        run_id = last
    return cancelled[0]


def _route_new(
    runtime: Runtime, tx: Connection, events: Sequence[StoredEvent], sender: Unit | None, *, again: bool
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
    started = admit_started_by(runtime, tx, catalog, events)
    routed.started(events, started)
    if started.cancels and len(events) > 1:
        verdicts += later_in_list(events, started.cancels)
    answer(runtime, tx, verdicts, routed, sender)
    return routed


def _prepare(runtime: Runtime, tx: Connection, events: Sequence[StoredEvent]) -> tuple[Snapshot, dict[str, list[int]]]:
    names = sorted({event.name for event in events})
    tx.locks.share_names(names)
    shapes, version = tx.waits.shapes_and_version(names)
    catalog = runtime.catalog.read(tx, version)
    hashes = {event.id: wait_hashes(event, shapes.get(event.name, ())) for event in events}
    tx.locks.share_stripes(h for found in hashes.values() for h in found)
    return catalog, hashes


def _prepare_late(runtime: Runtime, tx: Connection, event: StoredEvent) -> tuple[Snapshot, list[int]]:
    """As `_prepare`. What may cancel the runs that it starts is locked too: it was sent after, and may be here first.

    Which flows those are is guessed before the locks, by what this process knew last, and checked under them.
    """
    guess = runtime.catalog.latest.index.cancels(event.name)
    if not guess:
        catalog, hashes = _prepare(runtime, tx, [event])
        found = hashes[event.id]
    else:
        names = sorted({event.name, *(one.event for one in guess)})
        tx.locks.share_names(names)
        shapes, version = tx.waits.shapes_and_version([event.name])
        catalog = runtime.catalog.read(tx, version)
        found = wait_hashes(event, shapes.get(event.name, ()))
        tx.locks.hold_stripes([*found, *(match_hash(w.name, w.path, w.value) for w in cancel_waits(guess, event.data))])
    if not set(catalog.index.cancels(event.name)) <= set(guess):
        raise TransientError("the flows changed while the event was routed")
    return catalog, found


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
