"""How a branch's turn ends: its value or error goes to its row, the last one resumes whoever opened the group."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from celeryflows.durations import SECOND
from celeryflows.engine.branch_journal import BranchJournal
from celeryflows.engine.branch_values import pack
from celeryflows.engine.carrier import Carrier
from celeryflows.engine.conclusion import (
    Conclusion,
    bounded,
    check_own_end,
    hand_back,
    suspend,
    suspended_before,
    try_again,
)
from celeryflows.engine.failures import failure_of, failure_text, is_final
from celeryflows.engine.leaving import go_out, pass_out, send_off, settle, written_before
from celeryflows.engine.passage import Passage
from celeryflows.engine.passing import End, write_ends
from celeryflows.engine.remote_tasks import recall
from celeryflows.engine.runtime import Flow, Runtime
from celeryflows.engine.units import lock_units, queue_units
from celeryflows.errors import BoundExceeded, FlowsError, NondeterminismError
from celeryflows.model.branches import group_of, parent_of
from celeryflows.model.runs import Delivery, Status
from celeryflows.store.branches import Following, Unit
from celeryflows.store.connection import Connection
from celeryflows.store.groups import DONE, WON
from celeryflows.store.runs import Claim

OVER = (DONE, WON)


class EndedBefore(Exception):
    """Our own commit ended the branch; its reply was lost. Takes the second try back."""


def claim_branch(
    connection: Connection, worker: str, unit: Unit, token: int, carrier: Carrier, *, again: bool
) -> Claim | None:
    """Take a branch's next turn, as its run's is taken; `again` after a try whose reply was lost."""
    run_id, path = unit
    facts = carrier.facts or connection.runs.facts(run_id, worker)
    if facts is None:
        return None
    carrier.facts = facts
    made = connection.branches.claim(facts, path, token, carrier=carrier.name)
    return made or (connection.branches.claimed(facts, path, token) if again else None)


def conclude_branch(runtime: Runtime, flow: Flow, journal: BranchJournal, conclusion: Conclusion) -> Status | None:
    """Write the outcome of a branch's turn; None when what it waits for has come and the handler goes on at once."""
    recorder = journal.recorder
    if journal.gone is not None:
        raise journal.gone
    if journal.aside and not journal.entered and recorder.claim.attempt < flow.policy.retries:
        _let_parent_go_on(runtime, journal)
        return Status.SUSPENDED
    if journal.doom is not None:
        return _ended(runtime, flow, journal, Conclusion(error=journal.doom))
    if journal.outcome is not None:
        return _ended(runtime, flow, journal, journal.outcome)
    if journal.yielding:
        hand_back(runtime, recorder.connection, recorder.claim)
        return Status.QUEUED
    if journal.entered and (journal.paused or conclusion.parked):
        try:
            return Status.SUSPENDED if suspend(runtime, recorder, journal.pending) else None
        except BoundExceeded as error:
            return _ended(runtime, flow, journal, Conclusion(error=error))
    lost = conclusion.error or NondeterminismError(
        f"the handler does not come to branch {recorder.claim.path!r} any more; let runs under way end before such a "
        "change"
    )
    return _ended(runtime, flow, journal, Conclusion(error=lost))


def _let_parent_go_on(runtime: Runtime, journal: BranchJournal) -> None:
    """The code has a new step before the group: who opened it runs that step, and then the branch comes by."""
    recorder = journal.recorder
    claim, wake = recorder.claim, recorder.now() + SECOND
    parent = (claim.run_id, parent_of(claim.path))

    def work(tx: Connection, passage: Passage | None) -> list[Delivery]:
        pass_out(passage, parent)
        lock_units(tx, [parent])
        if not tx.branches.suspend(claim, wake, claim.attempt + 1):
            suspended_before(tx, claim)
            return written_before(passage, [])
        return queue_units(tx, [parent])

    send_off(runtime, go_out(runtime, recorder.connection, claim, work))


def _ended(runtime: Runtime, flow: Flow, journal: BranchJournal, outcome: Conclusion) -> Status:
    value, error = None, outcome.error
    if error is None:
        try:
            what = f"the value of branch {journal.recorder.claim.path!r}"
            value = bounded(runtime, pack(outcome.value, what), what)
        except FlowsError as bad:
            if not is_final(bad):
                raise
            error = bad
    if error is not None:
        error = try_again(runtime, flow, journal.recorder, error)
        if error is None:
            return Status.SUSPENDED
    status = Status.COMPLETED if error is None else Status.FAILED
    text = None if error is None else failure_text(failure_of(error))
    _write_end(runtime, journal, status, value, text)
    return status


def _write_end(runtime: Runtime, journal: BranchJournal, status: Status, value: str | None, error: str | None) -> None:
    claim, connection, carrier = journal.recorder.claim, journal.recorder.connection, journal.recorder.carrier
    has_more = journal.has_branches or bool(journal.pending) or journal.has_open_waits
    alone = not has_more and not claim.gates
    if alone and carrier is not None and value is not None and carrier.ends_later(claim, value):
        return
    ends = carrier.ends_of(group_of(claim.path)) if carrier is not None else []
    following = carrier.following() if carrier is not None else Following()
    asked = runtime.clock.monotonic()
    has_won = False

    def work(tx: Connection, passage: Passage | None) -> tuple[list[Delivery], Claim | None]:
        nonlocal has_won
        if passage is not None:
            passage.go()
        state = _arrive(tx, claim.unit, passage, ends)
        has_won = state == WON
        if not tx.branches.end(claim, status, value, error):
            check_own_end(tx, claim)
            raise EndedBefore
        write_ends(tx, ends)
        if has_more:
            tx.branches.cancel_below(claim.run_id, f"{claim.path}/")
            tx.waits.close_below(claim.run_id, claim.path)
        deliveries = _resume_parent(tx, claim.unit, state)
        return deliveries, _take_on(tx, claim, carrier, deliveries, following)

    if alone and not ends and (among := _end_among(journal, status, value, error, following)) is not None:
        _go_on(runtime, journal, [], among if isinstance(among, Claim) else None, asked)
        return
    try:
        deliveries, taken = go_out(runtime, connection, claim, work)
    except EndedBefore:
        deliveries, taken = _after_own_end(connection, claim, following)
    _go_on(runtime, journal, deliveries, taken, asked)
    if has_won:
        recall(runtime, [claim.run_id])
    if claim.gates and (has_more or has_won or deliveries):
        settle(runtime, [claim.run_id])


def _end_among(
    journal: BranchJournal, status: Status, value: str | None, error: str | None, following: Following
) -> Claim | Literal[True] | None:
    claim, connection = journal.recorder.claim, journal.recorder.connection
    return connection.repeat(lambda: connection.branches.end_among(claim, status, value, error, following))


def _go_on(
    runtime: Runtime, journal: BranchJournal, deliveries: list[Delivery], taken: Claim | None, asked: float
) -> None:
    """After the commit: by this delivery, or by a message to who opened the group."""
    carrier = journal.recorder.carrier
    if carrier is None:
        send_off(runtime, deliveries)
    elif deliveries:
        carrier.resume(deliveries[0], taken, asked, after=group_of(journal.recorder.claim.path))
    elif taken is not None:
        carrier.follow(taken, asked)


def _take_on(
    tx: Connection, claim: Claim, carrier: Carrier | None, deliveries: list[Delivery], following: Following
) -> Claim | None:
    """Claim what the delivery goes on with, in the transaction that ends a branch: who opened the group, when it was
    the last one, else the branch that follows."""
    if carrier is None or carrier.facts is None:
        return None
    for parent in deliveries:
        if not carrier.takes(parent):
            return None
        if parent.branch:
            return tx.branches.claim(carrier.facts, parent.branch, following.token, carrier.name)
        return tx.runs.claim(claim.run_id, claim.worker, following.token, carried=True, carrier=carrier.name or None)
    # Elsewhere a branch behind our own may be locked by who waits for ours.
    if following.path and tx.dialect.has_one_writer:
        return tx.branches.claim(claim, following.path, following.token, carrier.name)
    return None


def _after_own_end(connection: Connection, claim: Claim, following: Following) -> tuple[list[Delivery], Claim | None]:
    """Our own commit had ended the branch, and its reply was lost: what it claimed by the same token."""
    parent = replace(claim.delivery, branch=parent_of(claim.path))

    def look() -> Claim | None:
        units = (following.path, parent.branch)
        found = (connection.branches.claimed(claim, path, following.token) for path in units if path)
        taken = next((one for one in found if one is not None), None)
        return taken or connection.runs.claimed(claim.run_id, claim.worker, following.token)

    taken = connection.repeat(look)
    # Whether it was the last one nobody told us; a message too many claims nothing.
    return ([] if taken is not None and taken.path == following.path != "" else [parent]), taken


def fail_lost_branch(runtime: Runtime, unit: Unit, error: str) -> None:
    """queued -> failed after too many losses: the group goes on without it."""

    def work(tx: Connection) -> list[Delivery]:
        state = _arrive(tx, unit, None)
        if not tx.branches.fail_lost(unit, error):
            raise EndedBefore
        tx.branches.cancel_below(unit[0], f"{unit[1]}/")
        tx.waits.close_below(unit[0], unit[1])
        return _resume_parent(tx, unit, state)

    try:
        deliveries = runtime.store.transact(work)
    except EndedBefore:
        return
    send_off(runtime, deliveries)
    settle(runtime, [unit[0]])


def _arrive(tx: Connection, unit: Unit, passage: Passage | None, ends: Sequence[End] = ()) -> str | None:
    """Count the branch in, and those that ended before it. The group's row, then who opened it, whom the gates let in
    and who ended, of a race all its branches: in order of locks."""
    run_id, path = unit
    group = group_of(path)
    state = tx.groups.arrive(run_id, group, path, count=1 + len(ends))
    moved = {*(passage.moved if passage is not None else ()), *(end.unit for end in ends)}
    if moved and state == WON:
        moved |= {(run_id, one) for one in tx.branches.open_below(run_id, f"{group}[")}
    if state in OVER:
        # What a race's losers owe stands in the run's row.
        whole = {(run_id, "")} if state == WON else set()
        lock_units(tx, {(run_id, parent_of(path)), *whole, *({unit, *moved} if moved else ())})
    elif moved:
        lock_units(tx, {unit, *moved})
    if state == WON:
        tx.branches.lock_below(run_id, f"{group}[")
    if passage is not None:
        passage.write()
    return state


def _resume_parent(tx: Connection, unit: Unit, state: str | None) -> list[Delivery]:
    run_id, path = unit
    if state == WON:
        prefix = f"{group_of(path)}["
        tx.branches.cancel_below(run_id, prefix)
        if tx.waits.close_below(run_id, prefix):
            tx.links.owe_losers(run_id)
    return queue_units(tx, [(run_id, parent_of(path))]) if state in OVER else []
