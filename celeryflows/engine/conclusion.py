"""How a turn's outcome is written: suspend, finish, fail, hand back. Each in one transaction, messages after it."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from celeryflows.codec import dumps
from celeryflows.engine import telling
from celeryflows.engine.carrier import AT_ONCE, first_of
from celeryflows.engine.debts import pay
from celeryflows.engine.endings import completed_event, told, turn_failed_event
from celeryflows.engine.failures import failure_of, failure_text, is_final
from celeryflows.engine.finish import cancel, route_ended, tell_suspended
from celeryflows.engine.hearing import begin_to_hear
from celeryflows.engine.leaving import (
    go_out,
    goes_out,
    leave,
    pass_out,
    send_off,
    settle,
    stays_in,
    written_before,
)
from celeryflows.engine.matching import answers
from celeryflows.engine.openings import Openings
from celeryflows.engine.passage import Passage
from celeryflows.engine.quiet_ends import end_unheard
from celeryflows.engine.recording import Recorder
from celeryflows.engine.runtime import Flow, Runtime
from celeryflows.engine.waiting import Pending
from celeryflows.errors import BoundExceeded, FlowsError, LostTurn, TurnCancelled
from celeryflows.ids import derived_id
from celeryflows.model.branches import NewGroup
from celeryflows.model.events import RUN_COMPLETED, RUN_FAILED, StoredEvent
from celeryflows.model.runs import Status
from celeryflows.model.steps import Kind
from celeryflows.model.waits import OpenWait, WaitSpec
from celeryflows.store.connection import Connection
from celeryflows.store.runs import NOTHING, Claim
from celeryflows.store.waits import SHAPES_BOUND, NewWait


@dataclass(frozen=True, slots=True)
class Conclusion:
    """How the handler left: with a value, an error, parked, or giving the run up for a reason."""

    value: Any = None
    error: BaseException | None = None
    parked: bool = False
    gave_up: str | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """What was written: an output, an error, or (the body is tried again) a suspension."""

    output: str | None = None
    error: BaseException | None = None
    suspended: bool = False


def hand_back(runtime: Runtime, connection: Connection, claim: Claim) -> None:
    """running -> queued; another turn goes on from the same point."""
    delivery = connection.repeat(lambda: connection.unit(claim).hand_back(claim))
    if delivery is not None:
        runtime.dispatcher.send_runs([delivery])
    elif claim.gates:
        leave(runtime, claim)


def suspend(runtime: Runtime, recorder: Recorder, pending: Sequence[Pending]) -> bool:
    """running -> suspended until the first of what is pending; False when one of it has come already."""
    claim, carrier = recorder.claim, recorder.carrier
    wake = min((p.row.due for p in pending if p.row.due is not None), default=None)
    fresh = [p.wait for p in pending if p.wait is not None and not p.armed]
    armed = [p.row.key for p in pending if p.armed and p.group is None]
    groups = [p.group for p in pending if p.group is not None]
    opened = [p.group for p in pending if p.group is not None and not p.armed]
    openings = Openings(recorder, pending)
    carries = carrier is not None and bool(opened) and carrier.may_go_on
    claimed = _first_branches(recorder, opened[0]) if carries and len(pending) == 1 else []
    tries = 0
    begin_to_hear(runtime, recorder.connection, fresh)

    def work(tx: Connection, passage: Passage | None) -> bool:
        nonlocal tries, claimed
        tries += 1
        # A second try may find the waits that the first one armed and answered, when only its reply was lost.
        known = armed if tries == 1 else [p.row.key for p in pending if p.waits and p.group is None]
        _lock_waits(tx, fresh, openings.stripes)
        openings.lock(tx, passage, again=tries > 1)
        if not tx.unit(claim).suspend(claim, wake, claim.attempt):
            return written_before(passage, suspended_before(tx, claim))
        tx.steps.put([p.row for p in pending])
        stood = [group.path for group in groups if group not in opened]
        for group in opened:
            if not tx.groups.open(claim, group, claimed, carrier=carrier.name if carrier else ""):
                stood, claimed = [*stood, group.path], []
        answered = _arm(runtime, tx, claim, pending) | openings.open(tx, again=tries > 1)
        if (
            answered
            or (known and tx.waits.settled(claim.run_id, known))
            or (stood and tx.groups.settled(claim.run_id, stood))
        ):
            # What it waits for came first: the turn stays ours, and the handler goes on at once.
            tx.unit(claim).resume_own(claim)
            stays_in(passage)
            return False
        goes_out(claim, passage)
        return True

    suspended = go_out(runtime, recorder.connection, claim, work)
    recorder.tell_tried()
    openings.send_off()
    if suspended:
        _suspended(runtime, recorder, wake)
    if suspended and not claim.path and not claimed:
        tell_suspended(runtime, recorder.connection, claim.run_id)
    if opened:
        paths = [path for group in opened for path in group.branches]
        branches = [replace(claim.delivery, branch=path, at_door=bool(claim.gates)) for path in paths]
        if carrier is not None and carries and suspended:
            # They may be over in a moment, and the run with them.
            carrier.owes_word = bool(claimed) and not claim.path
            carrier.open(branches, claimed, recorder.heard_at)
        else:
            send_off(runtime, branches)
    return suspended


def _suspended(runtime: Runtime, recorder: Recorder, wake: int | None, error: BaseException | None = None) -> None:
    """The word to this process: who wakes it, and who listens."""
    now = recorder.now()
    if wake is not None:
        runtime.alarm.set(recorder.claim.unit, wake - now)
    if not recorder.claim.path:
        telling.suspended(recorder.claim, now, wake, error)


def _first_branches(recorder: Recorder, group: NewGroup) -> list[Claim]:
    """Who opens a group takes its first branches on at once; of a race one, which may make the others needless."""
    token, count = random.getrandbits(62), AT_ONCE if group.kind == Kind.PARALLEL else 1
    return [first_of(recorder.claim, path, token, recorder.heard) for path in group.branches[:count]]


def _lock_waits(tx: Connection, waits: Sequence[WaitSpec], signals: Sequence[int]) -> None:
    """Names and stripes before either side looks. A path that nobody waited on before takes its name alone."""
    if not waits:
        tx.locks.hold_stripes(signals)
        return
    known = tx.waits.shapes([w.name for w in waits])
    new = {(w.name, w.path) for w in waits if w.path not in known.get(w.name, ())}
    alone = sorted({name for name, _ in new})
    shared = sorted({w.name for w in waits} - set(alone))
    tx.locks.hold_names_and_stripes(shared, alone, [*(w.hash for w in waits), *signals])
    for name, path in sorted(new):
        paths = tx.waits.shapes([name]).get(name, [])
        if len(paths) >= SHAPES_BOUND and path not in paths:
            raise BoundExceeded(
                f"match paths of event {name!r}",
                SHAPES_BOUND,
                len(paths) + 1,
                "Use one fixed path, not a computed one.",
            )
        tx.waits.add_shape(name, path)


def _arm(runtime: Runtime, tx: Connection, claim: Claim, pending: Sequence[Pending]) -> bool:
    """Open the waits, then look for what arrived before: a later statement than the locks."""
    arming = [
        NewWait(derived_id("wait", claim.run_id, one.wait.key), claim.run_id, one.wait, one.row.due, claim.path)
        for one in pending
        if one.wait is not None and not one.armed and one.row.due is not None
    ]
    for wait in arming:
        tx.waits.arm(wait)
    # All look before one is answered: an event answers all that match it, and what was taken is not found any more.
    found = [(wait, _arrived(runtime, tx, claim, wait)) for wait in arming]
    kept = [(wait, event.id) for wait, event in found if event is not None and tx.events.hold(event.id)]
    answered = [tx.waits.answer(wait.id, event_id) for wait, event_id in kept]
    return any(answered)


def _arrived(runtime: Runtime, tx: Connection, claim: Claim, wait: NewWait) -> StoredEvent | None:
    spec, most = wait.spec, runtime.settings.lookback_candidates
    found = tx.events.arrivals(spec.name, spec.began, claim.run_id, most + 1, holding=spec.piece)
    as_open = OpenWait(wait.id, claim.run_id, spec.key, spec.name, spec.path, spec.value, spec.if_exp, claim.event)
    for event in found[:most]:
        truth, problem = answers(event, as_open)
        if problem:
            tx.waits.note_problem(wait.id, problem)
        if truth:
            return event
    if len(found) > most:
        raise BoundExceeded(
            f"events {spec.name!r} to look back over", most, len(found), "Use lookback='wait' or a shorter one."
        )
    return None


def suspended_before(tx: Connection, claim: Claim) -> bool:
    """The fence took no row: our own commit whose reply was lost, a cancelled run, or a lost turn."""
    found = tx.unit(claim).stands(claim)
    if found is not None and (found.turn, found.token) == (claim.turn, claim.token):
        if found.status == Status.CANCELLED:
            raise TurnCancelled
        if found.status != Status.RUNNING:
            return True
    raise LostTurn


def ended(runtime: Runtime, flow: Flow, recorder: Recorder, conclusion: Conclusion) -> Ended:
    """Write how the handler ended: completed, failed, or tried again."""
    if conclusion.error is None:
        try:
            return _complete(runtime, flow, recorder, conclusion.value)
        except FlowsError as error:
            if not is_final(error):
                raise
            return _fail(runtime, recorder, error)
    final = try_again(runtime, flow, recorder, conclusion.error)
    return Ended(suspended=True) if final is None else _fail(runtime, recorder, final)


def _complete(runtime: Runtime, flow: Flow, recorder: Recorder, value: Any) -> Ended:
    claim, connection, what = recorder.claim, recorder.connection, "the flow's value"
    output = dumps(value, what=what) if flow.output_type is None else flow.output_type.write(value, what=what)[0]
    bounded(runtime, output, what)
    owed = None if recorder.has_branches else connection.repeat(lambda: end_unheard(runtime, recorder, output))
    if owed is None:
        event = completed_event(runtime, claim, output)
        _finish(runtime, recorder, Status.COMPLETED, output, None, event)
    elif owed != NOTHING:
        pay(runtime, claim.run_id, cancel)
    telling.completed(claim, recorder.now(), output)
    return Ended(output=output)


def bounded(runtime: Runtime, text: str, what: str) -> str:
    """A value as it is stored. Raises BoundExceeded."""
    most = runtime.settings.max_value_bytes
    if len(text) * 4 > most and (size := len(text.encode())) > most:
        raise BoundExceeded(f"{what} in bytes", most, size, "Return a key instead, or raise flows_max_value_bytes.")
    return text


def _fail(runtime: Runtime, recorder: Recorder, error: BaseException) -> Ended:
    failure = failure_of(error)
    event = turn_failed_event(runtime, recorder.claim, failure)
    text = failure_text(failure)
    _finish(runtime, recorder, Status.FAILED, None, text, event)
    telling.failed(recorder.claim, recorder.now(), text)
    return Ended(error=error)


def _finish(
    runtime: Runtime, recorder: Recorder, status: Status, output: str | None, error: str | None, event: StoredEvent
) -> None:
    claim, connection = recorder.claim, recorder.connection
    name = RUN_COMPLETED if status is Status.COMPLETED else RUN_FAILED
    listened = connection.repeat(lambda: told(runtime, connection, name))

    def work(tx: Connection, passage: Passage | None) -> str:
        pass_out(passage, claim.unit)
        owed = tx.runs.finish(claim, status, output, error) or written_before(passage, check_own_end(tx, claim))
        if recorder.has_branches:
            tx.branches.cancel_below(claim.run_id, "")
        tx.waits.close(claim.run_id)
        if listened:
            tx.events.add_unrouted([event])
        return owed

    owed = go_out(runtime, connection, claim, work)
    if claim.gates and recorder.has_branches:
        settle(runtime, [claim.run_id])
    if owed != NOTHING:
        pay(runtime, claim.run_id, cancel)
    if listened:
        route_ended(runtime, event)


def check_own_end(connection: Connection, claim: Claim) -> str:
    """The fence took no row: fine when it was our own commit, whose reply was lost; what it owes."""
    found = connection.unit(claim).stands(claim)
    if found is None or (found.turn, found.token) != (claim.turn, claim.token):
        raise LostTurn
    if found.status == Status.CANCELLED:
        raise TurnCancelled
    if found.status == Status.RUNNING:
        raise LostTurn
    return getattr(found, "owes", None) or NOTHING


def try_again(runtime: Runtime, flow: Flow, recorder: Recorder, error: BaseException) -> BaseException | None:
    """Suspend until the body's next attempt; the error when there is none to come."""
    claim, now = recorder.claim, recorder.now()
    attempt = claim.attempt + 1
    try:
        delay = _delay(runtime, flow, claim, error, now)
    except Exception as bad:
        return bad
    if delay is None:
        return error

    def work(tx: Connection, passage: Passage | None) -> None:
        pass_out(passage, claim.unit)
        if not tx.unit(claim).suspend(claim, now + delay, attempt):
            written_before(passage, suspended_before(tx, claim))
        text = failure_text(failure_of(error))
        tx.unit(claim).note_error(claim, text)
        tx.steps.put_attempt(claim.run_id, claim.path, attempt, text)

    go_out(runtime, recorder.connection, claim, work)
    _suspended(runtime, recorder, now + delay, error)
    if not claim.path:
        tell_suspended(runtime, recorder.connection, claim.run_id)
    return None


def _delay(runtime: Runtime, flow: Flow, claim: Claim, error: BaseException, now: int) -> int | None:
    """Microseconds until the body's next attempt, None for none. Raises what the user's backoff does."""
    if flow.again is not None:
        return flow.again(error, now)
    if is_final(error) or claim.attempt >= flow.policy.retries:
        return None
    return flow.policy.delay_after(error, claim.attempt + 1, now=now, dice=runtime.dice())
