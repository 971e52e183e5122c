"""Resume: runs whose time has come, and runs whose worker or message was lost, go back to the queue."""

from collections.abc import Sequence
from dataclasses import dataclass

from celeryflows.durations import SECOND, format_duration
from celeryflows.engine import telling
from celeryflows.engine.branches import fail_lost_branch
from celeryflows.engine.debts import pay
from celeryflows.engine.endings import failed_event, told_within
from celeryflows.engine.failures import failure_of, failure_text, run_failed
from celeryflows.engine.finish import cancel, route_ended, tell_skipped
from celeryflows.engine.leaving import leave, send_off, settle
from celeryflows.engine.routing import cancel_runs, end_replaced
from celeryflows.engine.runtime import Runtime
from celeryflows.engine.waking import wake
from celeryflows.errors import UnknownRun
from celeryflows.model.events import RUN_FAILED, StoredEvent
from celeryflows.model.flows import FlowDefinition
from celeryflows.model.runs import Delivery
from celeryflows.model.steps import Failure
from celeryflows.signals import run_queued
from celeryflows.store.bounds import Overdue
from celeryflows.store.branches import Unit
from celeryflows.store.connection import Connection
from celeryflows.store.runs import Held, Outcome
from celeryflows.store.totals import LOST

BATCH = 200
# Younger ones are being paid by those who made them.
DEBT_AGE = SECOND // 4


def wake_due(runtime: Runtime) -> int:
    """Queue the runs whose time has come, a batch a transaction; how many."""
    with runtime.store.connection() as connection:
        due = connection.runs.due(BATCH)
    if due:
        _wake_runs(runtime, due)
    return len(due)


def wake_branches(runtime: Runtime) -> int:
    """Queue the branches whose time has come, a batch a transaction; how many."""
    with runtime.store.connection() as connection:
        due = connection.branches.due(BATCH)
    if due:
        _wake_branches(runtime, due)
    return len(due)


def wake_units(runtime: Runtime, units: Sequence[Unit]) -> set[Unit]:
    """Queue those of these whose time has come; which they were."""
    woken: list[Delivery] = []
    if runs := [run_id for run_id, path in units if not path]:
        woken += _wake_runs(runtime, runs)
    if branches := [unit for unit in units if unit[1]]:
        woken += _wake_branches(runtime, branches)
    return {(one.run_id, one.branch) for one in woken}


def _wake_runs(runtime: Runtime, due: Sequence[str]) -> Sequence[Delivery]:
    """Of timeout and event one wins."""
    with runtime.store.connection() as connection:
        woken = wake(runtime, connection, due)
        ids = [one.run_id for one in woken.deliveries]
        new = connection.runs.before_first_turn(ids) if run_queued.receivers else []
    for start in woken.skipped:
        tell_skipped(runtime, start)
    end_replaced(runtime, woken.replaced)
    send_off(runtime, woken.deliveries)
    telling.queued(new)
    return woken.deliveries


def _wake_branches(runtime: Runtime, due: Sequence[Unit]) -> Sequence[Delivery]:
    def work(tx: Connection) -> list[Delivery]:
        tx.branches.lock(due)
        woken = tx.branches.queue_due(due)
        tx.waits.expire_in_branches([(delivery.run_id, delivery.branch) for delivery in woken])
        return woken

    woken = runtime.store.transact(work)
    send_off(runtime, woken)
    return woken


def expire_unstarted(runtime: Runtime) -> int:
    """Cancel the runs that were not started before they expired; how many were looked at."""
    with runtime.store.connection() as connection:
        late = connection.bounds.past("expires_at", BATCH)
        flows = runtime.catalog.read(connection).flows if late else {}
    if late:
        cancel_runs(runtime, {run.id: _why_expired(run, flows.get(run.flow)) for run in late}, past="expires_at")
    return len(late)


def _why_expired(run: Overdue, flow: FlowDefinition | None) -> str:
    within = flow.timeouts.start_us if flow is not None and flow.timeouts is not None else None
    # A call's own `expires` may be the smaller one.
    if within is None or run.within < within - SECOND:
        return "expired before it started"
    return f"timeouts.start: it had not started after {format_duration(within)}"


def end_overdue(runtime: Runtime) -> int:
    """Cancel the runs that did not end within their flow's bound; how many were looked at."""
    with runtime.store.connection() as connection:
        late = connection.bounds.past("finish_by", BATCH)
    if late:
        reasons = {r.id: r.reason or _why_ended(r) for r in late}
        cancel_runs(runtime, reasons, past="finish_by")
    return len(late)


def _why_ended(run: Overdue) -> str:
    return f"timeouts.finish: it had not ended after {format_duration(run.within)}"


def pay_debts(runtime: Runtime, older_than: int = DEBT_AGE) -> int:
    """Tell the ends of runs that a crash kept from their parents and children; how many."""
    with runtime.store.connection() as connection:
        owing = connection.links.owing(older_than, BATCH)
    for run_id in owing:
        pay(runtime, run_id, cancel)
    return len(owing)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What became of a lost run: queued again, or failed and who listens to that."""

    delivery: Delivery | None = None
    error: str | None = None
    message: str | None = None
    failed: StoredEvent | None = None
    run: Outcome | None = None


def fail_stuck(runtime: Runtime, run_id: str, error: Exception) -> bool:
    """running -> failed, of a run that this worker runs and whose process it has ended. False: it moved on."""
    with runtime.store.connection() as connection:
        mine = connection.repeat(lambda: connection.runs.of_worker(runtime.worker))
    return any(requeue(runtime, held, error) for held in mine if held.id == run_id)


def requeue(runtime: Runtime, held: Held, failed: Exception | None = None) -> bool:
    """running -> queued after its worker was lost; after too many losses at one point, or when it `failed`, it fails.
    False: it moved on."""
    if held.path:
        return _requeue_branch(runtime, held)

    def work(tx: Connection) -> Recovered | None:
        back = tx.runs.requeue(held)
        if back is None:
            return None
        delivery, lost = back
        if failed is not None:
            return _fail_lost(runtime, tx, delivery, failure_of(failed))
        goes_on = lost < runtime.settings.max_lost
        ended = Recovered(delivery) if goes_on else _fail_lost(runtime, tx, delivery, _worker_lost(lost))
        tx.totals.add(delivery.flow, {LOST: 1})
        return ended

    recovered = runtime.store.transact(work)
    if recovered is None:
        # It may have been cancelled while it ran.
        leave(runtime, held)
        return False
    if recovered.delivery is not None:
        runtime.dispatcher.send_runs([recovered.delivery])
    if recovered.error is not None:
        error = failed or run_failed(held.id, recovered.error)
        runtime.dispatcher.run_failed(held.id, error, recovered.message)
        if recovered.run is not None:
            telling.lost(recovered.run, recovered.error)
        settle(runtime, [held.id])
        pay(runtime, held.id, cancel)
    if recovered.failed is not None:
        route_ended(runtime, recovered.failed)
    return True


def _requeue_branch(runtime: Runtime, held: Held) -> bool:
    def work(tx: Connection) -> tuple[Delivery, int] | None:
        back = tx.branches.requeue(held)
        if back is not None:
            tx.totals.add(back[0].flow, {LOST: 1})
        return back

    back = runtime.store.transact(work)
    if back is None:
        leave(runtime, held)
        return False
    delivery, lost = back
    if lost < runtime.settings.max_lost:
        runtime.dispatcher.send_runs([delivery])
    else:
        fail_lost_branch(runtime, (held.id, held.path), failure_text(_worker_lost(lost)))
    return True


def _worker_lost(lost: int) -> Failure:
    return Failure("WorkerLost", f"its worker died {lost} times at the same point of the handler")


def _fail_lost(runtime: Runtime, tx: Connection, delivery: Delivery, failure: Failure) -> Recovered:
    found = tx.runs.outcome(delivery.run_id)
    if found is None:
        raise UnknownRun(f"No run {delivery.run_id!r}.")
    error = failure_text(failure)
    tx.runs.fail_lost(delivery.run_id, error)
    tx.branches.cancel_below(delivery.run_id, "")
    tx.waits.close(delivery.run_id)
    trigger = tx.events.get(found.event_id)
    if trigger is None or not told_within(runtime, tx, RUN_FAILED):
        return Recovered(error=error, message=delivery.message, run=found)
    event = failed_event(runtime, delivery.run_id, delivery.flow, trigger, failure)
    tx.events.add_unrouted([event])
    return Recovered(error=error, message=delivery.message, failed=event, run=found)
