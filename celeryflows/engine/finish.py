"""The end of a run told to others, after its commit. And cancelling by hand."""

from typing import Any

from celeryflows.codec import loads
from celeryflows.engine import telling
from celeryflows.engine.aftermath import left_to_recovery
from celeryflows.engine.debts import pay
from celeryflows.engine.endings import last_of
from celeryflows.engine.failures import run_failed
from celeryflows.engine.routing import cancel_line, route_stored
from celeryflows.engine.runtime import Runtime
from celeryflows.engine.starts import Start
from celeryflows.errors import UnknownRun
from celeryflows.model.events import StoredEvent
from celeryflows.model.runs import Status, carrying_task
from celeryflows.store.connection import Connection


def route_ended(runtime: Runtime, event: StoredEvent) -> None:
    """Route an event of ours right after its commit; what is missed, recovery routes."""
    with left_to_recovery():
        route_stored(runtime, event.id)


def tell_suspended(runtime: Runtime, connection: Connection, run_id: str) -> None:
    """Tell that the run sleeps or waits. The next turn may have ended it meanwhile: then its end is told once more."""
    if not runtime.dispatcher.run_suspended(run_id):
        return
    found = connection.repeat(lambda: connection.runs.outcome(run_id))
    if found is not None and found.status == Status.FAILED:
        runtime.dispatcher.run_failed(run_id, run_failed(run_id, found.error))
    elif found is not None and found.status == Status.CANCELLED:
        runtime.dispatcher.run_cancelled(run_id, found.reason or "cancelled")


def cancel(runtime: Runtime, run_id: str, reason: str, *, terminate: bool = False) -> bool:
    """Cancel a run, or the one that goes on for it; False when it had ended. Raises UnknownRun.

    At once for what sleeps, waits or is queued; a running turn stops at its next boundary, or now with `terminate`:
    then the Celery tasks at work on it, and those that it sent, are ended too, also of a run that was cancelled before.
    """
    cancelled = cancel_line(runtime, run_id, reason)
    if cancelled is None:
        last, status = _status(runtime, run_id)
        at_work = status == Status.CANCELLED
    else:
        last, at_work = cancelled.run_id, cancelled.row.was_running
    if terminate:
        with runtime.store.connection() as connection:
            carriers = connection.repeat(lambda: connection.branches.cut_off(last))
            if at_work:
                carriers.append(connection.repeat(lambda: connection.runs.carrier(last)))
            sent = connection.repeat(lambda: connection.tasks.closed(last))
        for one in [*sorted({carrying_task(last, carrier) for carrier in carriers}), *sent]:
            runtime.dispatcher.terminate(one)
    return cancelled is not None


def tell_skipped(runtime: Runtime, start: Start) -> None:
    """Tell who asks, and who listens, that a scheduled run was skipped when its time had come."""
    runtime.dispatcher.run_cancelled(start.run.id, start.run.reason or "skipped", start.run.message)
    telling.routed([], [start.run])
    pay(runtime, start.run.id, cancel)


def _status(runtime: Runtime, run_id: str) -> tuple[str, str]:
    last = last_of(runtime, run_id)
    with runtime.store.connection() as connection:
        found = connection.repeat(lambda: connection.runs.outcome(last))
    if found is None:
        raise UnknownRun(f"No run {run_id!r} in the store {runtime.store.shown_url()}.")
    return last, found.status


def read_output(status: str, output: str | None) -> Any:
    """The value of a completed run."""
    return loads(output) if status == Status.COMPLETED and output is not None else None
