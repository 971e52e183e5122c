"""How a branch's turn ends: its value or error goes to its row, the last one resumes whoever opened the group."""

from dataclasses import replace

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
from celeryflows.engine.runtime import Flow, Runtime
from celeryflows.engine.units import lock_units, queue_units
from celeryflows.errors import BoundExceeded, FlowsError, NondeterminismError
from celeryflows.model.branches import group_of, parent_of
from celeryflows.model.runs import Delivery, Status
from celeryflows.store.branches import Unit
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
    made = connection.branches.claim(facts, path, token, carrier=carrier.path)
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

    def work(tx: Connection) -> list[Delivery]:
        lock_units(tx, [parent])
        if not tx.branches.suspend(claim, wake, claim.attempt + 1):
            suspended_before(tx, claim)
        return queue_units(tx, [parent])

    deliveries = recorder.connection.transact(work)
    if deliveries:
        runtime.dispatcher.send_runs(deliveries)


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
    claim, connection = journal.recorder.claim, journal.recorder.connection
    has_more = journal.has_branches or bool(journal.pending) or journal.has_open_waits

    def work(tx: Connection) -> list[Delivery]:
        state = _arrive(tx, (claim.run_id, claim.path))
        if not tx.branches.end(claim, status, value, error):
            check_own_end(tx, claim)
            raise EndedBefore
        if has_more:
            tx.branches.cancel_below(claim.run_id, f"{claim.path}/")
            tx.waits.close_below(claim.run_id, claim.path)
        return _resume_parent(tx, (claim.run_id, claim.path), state)

    if not has_more and connection.repeat(lambda: connection.branches.end_among(claim, status, value, error)):
        return
    try:
        deliveries = connection.transact(work)
    except EndedBefore:
        # Whether it was the last one nobody told us; a message too many claims nothing.
        deliveries = [replace(claim.delivery, branch=parent_of(claim.path))]
    carrier = journal.recorder.carrier
    if deliveries and carrier is not None:
        carrier.resume(deliveries)
    elif deliveries:
        runtime.dispatcher.send_runs(deliveries)


def fail_lost_branch(runtime: Runtime, unit: Unit, error: str) -> None:
    """queued -> failed after too many losses: the group goes on without it."""

    def work(tx: Connection) -> list[Delivery]:
        state = _arrive(tx, unit)
        if not tx.branches.fail_lost(unit, error):
            raise EndedBefore
        tx.branches.cancel_below(unit[0], f"{unit[1]}/")
        tx.waits.close_below(unit[0], unit[1])
        return _resume_parent(tx, unit, state)

    try:
        deliveries = runtime.store.transact(work)
    except EndedBefore:
        return
    if deliveries:
        runtime.dispatcher.send_runs(deliveries)


def _arrive(tx: Connection, unit: Unit) -> str | None:
    """Count the branch in. The group's row, then who opened it and, of a race, all its branches: in order of locks."""
    run_id, path = unit
    group = group_of(path)
    state = tx.groups.arrive(run_id, group, path)
    if state in OVER:
        lock_units(tx, [(run_id, parent_of(path))])
    if state == WON:
        tx.branches.lock_below(run_id, f"{group}[")
    return state


def _resume_parent(tx: Connection, unit: Unit, state: str | None) -> list[Delivery]:
    run_id, path = unit
    if state == WON:
        prefix = f"{group_of(path)}["
        tx.branches.cancel_below(run_id, prefix)
        tx.waits.close_below(run_id, prefix)
    return queue_units(tx, [(run_id, parent_of(path))]) if state in OVER else []
