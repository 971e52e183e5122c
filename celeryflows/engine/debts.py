"""What a run owes: its parent's step gets the value or error; children bound to a cancelled one, or to a branch that
lost a race, are cancelled. The end itself marks the debt; it is paid right after in a transaction of its own, else by
recovery."""

from collections.abc import Callable

from celeryflows.engine.aftermath import left_to_recovery
from celeryflows.engine.budget import past_bound
from celeryflows.engine.failures import failure_of, failure_text
from celeryflows.engine.leaving import send_off
from celeryflows.engine.runtime import Runtime
from celeryflows.engine.units import lock_units, queue_units
from celeryflows.model.runs import Delivery, Status
from celeryflows.model.steps import Failure, State, branch_of
from celeryflows.store.connection import Connection
from celeryflows.store.links import END, LOSERS, Debt

# A verb of those who pay debts themselves.
Cancel = Callable[[Runtime, str, str], object]


def pay(runtime: Runtime, run_id: str, cancel: Cancel) -> None:
    """Tell a run's end to those that it concerns: once, whoever tries. What fails is left to recovery."""
    with left_to_recovery(), runtime.store.connection() as connection:
        debt = connection.repeat(lambda: connection.links.debt(run_id))
        if debt is None:
            return
        if debt.status == Status.CANCELLED:
            for child in connection.repeat(lambda: connection.links.bound_children(run_id)):
                cancel(runtime, child, f"cancelled with its parent {run_id}")
        elif debt.owes != END:
            for child in connection.repeat(lambda: connection.links.lost_children(run_id)):
                cancel(runtime, child, f"cancelled with a branch of its parent {run_id} that lost a race")
        woken: list[Delivery] = []
        connection.transact(lambda tx: _tell_parent(runtime, tx, debt, woken))
        if woken:
            send_off(runtime, woken)


def _tell_parent(runtime: Runtime, tx: Connection, debt: Debt, woken: list[Delivery]) -> None:
    callers = _callers(tx, debt)
    units = {(run, branch_of(key)) for run, key in callers}
    lock_units(tx, [(debt.run_id, ""), *units])
    if debt.owes == LOSERS and tx.links.lost_children(debt.run_id):
        # Another race was lost meanwhile.
        return
    if not tx.links.settle(debt.run_id, debt.owes) or debt.owes == LOSERS:
        # A try whose reply was lost has put the messages into `woken`.
        return
    answered = [(run, key) for run, key in callers if tx.links.answer(run, key)]
    for run, key in answered:
        tx.steps.settle(run, key, *_answer(runtime, tx, debt, run))
    if answered:
        woken[:] = queue_units(tx, {(run, branch_of(key)) for run, key in answered})


def _callers(tx: Connection, debt: Debt) -> list[tuple[str, str]]:
    """The steps that wait for the run's end: its parent's, and those of who invoked it by an event that joined it."""
    if debt.owes == LOSERS or debt.parent is None or debt.parent_key is None:
        return []
    joined = {(link.parent or "", link.parent_key or "") for link in tx.batches.callers(debt.run_id)}
    return sorted({(debt.parent, debt.parent_key), *joined})


def _answer(runtime: Runtime, tx: Connection, debt: Debt, parent: str) -> tuple[State, str]:
    if debt.status == Status.COMPLETED:
        output = debt.output or "null"
        remedy = "Let the invoked flow return a key instead,"
        over = past_bound(runtime.settings, output, lambda: tx.steps.bytes_of(parent), remedy)
        return (State.DONE, output) if over is None else (State.FAILED, failure_text(failure_of(over)))
    if debt.status == Status.FAILED and debt.error is not None:
        return State.FAILED, debt.error
    return State.FAILED, failure_text(Failure("RunCancelled", debt.reason or debt.status))
