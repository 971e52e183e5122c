"""The end of a run told to others: our own events, and cancelling by hand."""

import json
from typing import Any

from celeryflows.codec import loads
from celeryflows.engine import telling
from celeryflows.engine.debts import pay
from celeryflows.engine.failures import run_failed, storable
from celeryflows.engine.routing import left_to_recovery, route_stored
from celeryflows.engine.runtime import Runtime
from celeryflows.errors import UnknownRun
from celeryflows.ids import derived_id
from celeryflows.model.events import RUN_CANCELLED, RUN_COMPLETED, RUN_FAILED, StoredEvent
from celeryflows.model.runs import Status
from celeryflows.model.steps import Failure
from celeryflows.store.connection import Connection
from celeryflows.store.runs import Claim, Outcome


def told(runtime: Runtime, connection: Connection, name: str) -> bool:
    """True when somebody listens to such events of ours as of now."""
    return runtime.catalog.read(connection).tells(name)


def completed_event(runtime: Runtime, claim: Claim, output: str) -> StoredEvent:
    """`flows/run.completed` of the run."""
    return _own(runtime, RUN_COMPLETED, claim.run_id, claim.flow, claim.event, {"output": _plain(output)})


def continued_event(runtime: Runtime, claim: Claim, next_id: str) -> StoredEvent:
    """`flows/run.completed` of a run that another goes on for."""
    more = {"output": None, "continued_as": next_id}
    return _own(runtime, RUN_COMPLETED, claim.run_id, claim.flow, claim.event, more)


def failed_event(runtime: Runtime, run_id: str, flow: str, trigger: StoredEvent, failure: Failure) -> StoredEvent:
    """`flows/run.failed` of the run."""
    return _own(runtime, RUN_FAILED, run_id, flow, trigger, {"error": failure.json()})


def _own(
    runtime: Runtime, name: str, run_id: str, flow: str, trigger: StoredEvent, more: dict[str, Any]
) -> StoredEvent:
    shown = trigger.scope()
    data = {"run_id": run_id, "flow": flow, "event": shown, "events": [shown], **more}
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    # Its id follows from the run, so that it is stored once whoever tries.
    return StoredEvent(derived_id(name, run_id), None, name, text, data, runtime.clock.now(), None)


def _plain(text: str) -> Any:
    return json.loads(text)


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


def cancel(runtime: Runtime, run_id: str, reason: str) -> bool:
    """Cancel a run, or the one that goes on for it; False when it had ended. Raises UnknownRun.

    At once for what sleeps, waits or is queued; a running turn stops at its next boundary.
    """
    reason = storable(reason)
    while not _cancel_one(runtime, run_id, reason):
        last = last_of(runtime, run_id)
        if last == run_id:
            return False
        run_id = last
    return True


def last_of(runtime: Runtime, run_id: str) -> str:
    """The run that goes on for this one by now, itself when none does."""
    with runtime.store.connection() as connection:
        return connection.repeat(lambda: connection.links.last_of(run_id)) or run_id


def _cancel_one(runtime: Runtime, run_id: str, reason: str) -> bool:
    tries = 0

    def work(tx: Connection) -> tuple[Outcome | None, StoredEvent | None]:
        nonlocal tries
        tries += 1
        found = tx.runs.outcome(run_id)
        if found is None:
            raise UnknownRun(f"No run {run_id!r} in the store {runtime.store.shown_url()}.")
        if tx.runs.cancel(run_id, reason) is None and not (tries > 1 and _is_cancelled(tx, run_id, reason)):
            return None, None
        tx.waits.close(run_id)
        trigger = tx.events.get(found.event_id)
        event = None
        if trigger is not None and told(runtime, tx, RUN_CANCELLED):
            event = _own(runtime, RUN_CANCELLED, run_id, found.flow, trigger, {"reason": reason})
            tx.events.add_unrouted([event])
        return found, event

    left, event = runtime.store.transact(work)
    if left is None:
        return False
    runtime.dispatcher.run_cancelled(run_id, reason, left.message)
    telling.cancelled(left, reason)
    pay(runtime, run_id, cancel)
    if event is not None:
        route_ended(runtime, event)
    return True


def _is_cancelled(tx: Connection, run_id: str, reason: str) -> bool:
    """After a try whose reply was lost: it was our own commit that cancelled the run."""
    found = tx.runs.outcome(run_id)
    return found is not None and (found.status, found.reason) == (Status.CANCELLED, reason)


def read_output(status: str, output: str | None) -> Any:
    """The value of a completed run."""
    return loads(output) if status == Status.COMPLETED and output is not None else None
