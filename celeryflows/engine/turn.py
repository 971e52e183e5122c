"""A turn: claim, read memos, run the handler over them, then suspend, finish or hand back.

One Celery delivery moves a run on by one turn; a doubled or late message finds nothing to claim."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from celeryflows.async_steps import AsyncSteps
from celeryflows.codec import loads
from celeryflows.context import Context, RunInfo
from celeryflows.engine import telling
from celeryflows.engine.async_turn import run_async
from celeryflows.engine.branch_journal import BranchJournal
from celeryflows.engine.branches import claim_branch, conclude_branch
from celeryflows.engine.bundled_runs import BundledRuns
from celeryflows.engine.carrier import Carrier
from celeryflows.engine.conclusion import Conclusion, ended, hand_back, suspend
from celeryflows.engine.edited import read_edited
from celeryflows.engine.finish import cancel, tell_suspended
from celeryflows.engine.leaving import leave
from celeryflows.engine.recording import Recorder
from celeryflows.engine.runtime import Flow, Runtime
from celeryflows.engine.successors import continue_as
from celeryflows.engine.turn_journal import TurnJournal
from celeryflows.errors import BoundExceeded, GaveUp, LostTurn, PayloadLocked, Suspend, TurnCancelled, UnknownFlow
from celeryflows.groups import AsyncGroup, Group
from celeryflows.middleware import RunCall, entered, returned
from celeryflows.model.runs import Status
from celeryflows.steps import Steps
from celeryflows.store.branches import Unit
from celeryflows.store.connection import Connection
from celeryflows.store.runs import Claim

logger = logging.getLogger("celeryflows")


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """How a turn ended. `error` is the exception that failed the run, for Celery to record; `continued_as` the run that
    goes on for a completed one."""

    status: Status | None
    value: Any = None
    error: BaseException | None = None
    reason: str | None = None
    continued_as: str | None = None


NOT_CLAIMED = TurnEnd(None)


def never() -> bool:
    """A turn that nobody asks to stop."""
    return False


def always() -> bool:
    """A delivery that may take on what it opens."""
    return True


def take_turn(
    runtime: Runtime,
    run_id: str,
    must_yield: Callable[[], bool] = never,
    *,
    branch: str = "",
    may_carry: Callable[[], bool] = always,
    bundled: BundledRuns | None = None,
) -> TurnEnd:
    """Take the next turn of the run, or of its branch, if there is one to take; and, of a group that it opens, the
    turns that nobody else has taken, so that what is over in a moment needs no further message.

    `must_yield` is asked at each step boundary: True hands the turn back to the queue; `may_carry` before each further
    turn: False leaves it to a message; `bundled`: the runs that came with this one by one message.
    Returns NOT_CLAIMED when there is nothing to claim; `status` CANCELLED or None (lost) tells that this turn changed
    nothing.
    """
    carrier = Carrier(runtime, branch, lambda: may_carry() and not must_yield(), bundled)
    with runtime.store.connection() as connection:
        end = _take(runtime, connection, (run_id, branch), carrier, must_yield)
        if not carrier.has_more:
            return end
        with carrier:
            while carrier.is_loaded:
                path, claim = carrier.next()
                one = _take(runtime, connection, (run_id, path), carrier, must_yield, claim)
                if path == branch and one.status is not None:
                    end = one
        if carrier.owes_word:
            tell_suspended(runtime, connection, run_id)
        return end


def _take(
    runtime: Runtime,
    connection: Connection,
    unit: Unit,
    carrier: Carrier,
    must_yield: Callable[[], bool],
    claim: Claim | None = None,
) -> TurnEnd:
    token = claim.token if claim is not None else carrier.token(unit[0])
    try:
        asked = runtime.clock.monotonic()
        claim = claim or carrier.claimed(connection, unit[0])
        heard_at = carrier.heard_at if claim is not None else asked
        claim = claim or _claim(runtime, connection, unit, token, carrier)
        if claim is None:
            return NOT_CLAIMED
        return _run_claimed(runtime, connection, claim, carrier, must_yield, heard_at)
    except PayloadLocked as locked:
        # Another worker may have the key, or this one soon: the run must not fail for it.
        logger.error("run %s goes back to the queue: %s", unit[0], locked)
        units = connection.branches if unit[1] else connection.runs
        return TurnEnd(Status.QUEUED) if units.shelve(unit[0], token) else NOT_CLAIMED


def _claim(runtime: Runtime, connection: Connection, unit: Unit, token: int, carrier: Carrier) -> Claim | None:
    run_id, branch = unit
    tries = 0

    def claim() -> Claim | None:
        nonlocal tries
        tries += 1
        if branch:
            return claim_branch(connection, runtime.worker, unit, token, carrier, again=tries > 1)
        made = connection.runs.claim(run_id, runtime.worker, token, carrier=carrier.name or None)
        # A reply that was lost may have been a claim that was made; asked after, for its commit may be under way yet.
        return made or (connection.runs.claimed(run_id, runtime.worker, token) if tries > 1 else None)

    return connection.repeat(claim)


def _run_claimed(
    runtime: Runtime,
    connection: Connection,
    claim: Claim,
    carrier: Carrier,
    must_yield: Callable[[], bool],
    heard_at: float,
) -> TurnEnd:
    flow = runtime.flows.get(claim.flow)
    if flow is None:
        hand_back(runtime, connection, claim)
        known = ", ".join(sorted(runtime.flows)) or "none"
        raise UnknownFlow(f"No flow {claim.flow!r}. Known: {known}. Is its module imported by the worker?")
    if not claim.path:
        _first_words(flow, connection, claim)
    claim = _with_events(connection, claim)
    recorder = Recorder(runtime, connection, claim, must_yield, heard_at)
    recorder.began = _first_began(flow, connection, claim)
    # Each branch of a limited run asks at its gates: none is taken on in passing.
    if runtime.carries and not claim.gates:
        recorder.carrier = carrier
        carrier.begin(connection, claim)
    try:
        while True:
            # The first turn has nothing to remember; its memos need no reading. A rerun may keep some.
            memos = (
                carrier.memos(connection, claim, anew=recorder.looked)
                if claim.turn > 1 or recorder.looked or claim.origin is not None or claim.path
                else {}
            )
            journal = (BranchJournal if claim.path else TurnJournal)(runtime, flow, recorder, memos)
            if claim.origin is not None:
                journal.edited = read_edited(connection, claim.run_id)
            conclusion = call_handler(runtime, flow, claim, journal)
            end = _conclude(runtime, flow, journal, conclusion)
            if end is not None:
                return end
            recorder.looked = True
    except TurnCancelled:
        carrier.stop()
        if claim.gates:
            leave(runtime, claim)
        return TurnEnd(Status.CANCELLED)
    except LostTurn:
        carrier.stop()
        return NOT_CLAIMED


def _with_events(connection: Connection, claim: Claim) -> Claim:
    """All events of a batch's run."""
    if claim.batch is None:
        return claim
    return replace(claim, events=tuple(connection.repeat(lambda: connection.batches.events(claim.run_id))))


def _first_words(flow: Flow, connection: Connection, claim: Claim) -> None:
    """A turn of the run itself begins."""
    telling.claimed(claim)
    if flow.definition.timeouts is not None and (within := flow.definition.timeouts.finish_us) is not None:
        connection.repeat(lambda: connection.bounds.set_finish(claim, within))


def _first_began(flow: Flow, connection: Connection, claim: Claim) -> int:
    """When the turn's first fresh step did. Where turns were lost or cut off at it, it may have provoked something in
    each of them; of an async handler it was under way while others were recorded."""
    since = claim.lost_since
    if since is None:
        return claim.at
    last = None if flow.is_async else connection.repeat(lambda: connection.steps.last_end(claim.run_id, claim.path))
    return min(claim.at, since if last is None else max(since, last))


def call_handler(runtime: Runtime, flow: Flow, claim: Claim, journal: TurnJournal) -> Conclusion:
    """Run the handler over a journal, through the middleware; how it left."""
    step = AsyncSteps(journal) if flow.is_async else Steps(journal)
    group = AsyncGroup(journal) if flow.is_async else Group(journal)
    info = RunInfo(claim.run_id, claim.flow, claim.version)
    ctx = Context(runtime.schemas.read(claim.event), info, journal, step, group)
    if claim.events:
        ctx.events = [runtime.schemas.read(event) for event in claim.events]
    try:
        if runtime.middleware:
            return _through_middleware(runtime, flow, journal, ctx)
        if flow.is_async:
            return run_async(flow.handler(ctx), journal)
        return Conclusion(value=flow.handler(ctx))
    except Suspend:
        return Conclusion(parked=True)
    except GaveUp as end:
        return Conclusion(gave_up=end.reason)
    except Exception as error:
        return Conclusion(error=error)


def _through_middleware(runtime: Runtime, flow: Flow, journal: TurnJournal, ctx: Context) -> Conclusion:
    ctx = entered(runtime.middleware, ctx)
    conclusion = run_async(flow.handler(ctx), journal) if flow.is_async else Conclusion(value=flow.handler(ctx))
    if conclusion.error is not None or conclusion.parked or journal.paused or journal.yielding or journal.over:
        return conclusion
    claim = journal.recorder.claim
    call = RunCall(claim.run_id, claim.flow, claim.version, claim.attempt, ctx.event)
    return Conclusion(value=returned(runtime.middleware, call, conclusion.value))


def _conclude(runtime: Runtime, flow: Flow, journal: TurnJournal, conclusion: Conclusion) -> TurnEnd | None:
    """Write the outcome; None when a wait is answered already and the handler goes on at once."""
    recorder = journal.recorder
    if conclusion.gave_up is not None and journal.gone is None:
        cancel(runtime, recorder.claim.run_id, conclusion.gave_up)
        raise TurnCancelled
    if isinstance(journal, BranchJournal):
        status = conclude_branch(runtime, flow, journal, conclusion)
        return TurnEnd(status) if status is not None else None
    if journal.gone is not None:
        raise journal.gone
    if journal.doom is not None:
        return _ended(runtime, flow, journal, Conclusion(error=journal.doom))
    if journal.successor is not None:
        recorder.has_branches = journal.has_branches
        next_id = continue_as(runtime, recorder, journal.successor)
        return TurnEnd(Status.COMPLETED, continued_as=next_id)
    if journal.yielding:
        hand_back(runtime, recorder.connection, recorder.claim)
        return TurnEnd(Status.QUEUED)
    if journal.paused or conclusion.parked:
        try:
            return TurnEnd(Status.SUSPENDED) if suspend(runtime, recorder, journal.pending) else None
        except BoundExceeded as error:
            return _ended(runtime, flow, journal, Conclusion(error=error))
    return _ended(runtime, flow, journal, conclusion)


def _ended(runtime: Runtime, flow: Flow, journal: TurnJournal, conclusion: Conclusion) -> TurnEnd:
    journal.recorder.has_branches = journal.has_branches
    end = ended(runtime, flow, journal.recorder, conclusion)
    if end.suspended:
        return TurnEnd(Status.SUSPENDED)
    if end.error is not None:
        return TurnEnd(Status.FAILED, error=end.error)
    return TurnEnd(Status.COMPLETED, value=loads(end.output) if end.output is not None else None)
