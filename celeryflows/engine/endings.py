"""How a run ends for others: our own events, and the cancelling itself, in whatever transaction decides it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celeryflows.engine.failures import read_failure, storable
from celeryflows.engine.runtime import Runtime
from celeryflows.ids import derived_id
from celeryflows.model.events import RUN_CANCELLED, RUN_COMPLETED, RUN_FAILED, StoredEvent
from celeryflows.model.runs import Status
from celeryflows.model.steps import Failure
from celeryflows.store.connection import Connection
from celeryflows.store.runs import Bound, CancelledRow, Claim, Outcome


def told(runtime: Runtime, connection: Connection, name: str) -> bool:
    """True when somebody listens to such events of ours as of now."""
    return runtime.catalog.read(connection).tells(name)


def told_within(runtime: Runtime, tx: Connection, name: str) -> bool:
    """The same in a transaction that ends runs which nobody works on: who begins to listen waits for its commit."""
    tx.locks.share_telling()
    return told(runtime, tx, name)


def completed_event(runtime: Runtime, claim: Claim, output: str) -> StoredEvent:
    """`flows/run.completed` of the run."""
    return _own(runtime, RUN_COMPLETED, claim.run_id, claim.flow, _triggers(claim), {"output": _plain(output)})


def continued_event(runtime: Runtime, claim: Claim, next_id: str) -> StoredEvent:
    """`flows/run.completed` of a run that another goes on for."""
    more = {"output": None, "continued_as": next_id}
    return _own(runtime, RUN_COMPLETED, claim.run_id, claim.flow, _triggers(claim), more)


def turn_failed_event(runtime: Runtime, claim: Claim, failure: Failure) -> StoredEvent:
    """`flows/run.failed` of the run whose turn failed."""
    return _own(runtime, RUN_FAILED, claim.run_id, claim.flow, _triggers(claim), {"error": failure.json()})


def failed_event(runtime: Runtime, run_id: str, flow: str, trigger: StoredEvent, failure: Failure) -> StoredEvent:
    """`flows/run.failed` of the run."""
    return _own(runtime, RUN_FAILED, run_id, flow, [trigger], {"error": failure.json()})


def _triggers(claim: Claim) -> Sequence[StoredEvent]:
    return claim.events or [claim.event]


def _own(
    runtime: Runtime, name: str, run_id: str, flow: str, triggers: Sequence[StoredEvent], more: dict[str, Any]
) -> StoredEvent:
    shown = [trigger.scope() for trigger in triggers]
    data = {"run_id": run_id, "flow": flow, "event": shown[0], "events": shown, **more}
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    # Its id follows from the run, so that it is stored once whoever tries.
    return StoredEvent(derived_id(name, run_id), None, name, text, data, runtime.clock.now(), None)


def end_event(runtime: Runtime, tx: Connection, found: Outcome) -> StoredEvent | None:
    """The event of a run's end as its row tells it; None for a run whose events are gone."""
    trigger = tx.events.get(found.event_id)
    if trigger is None:
        return None
    triggers = tx.batches.events(found.id) if found.batch is not None else [trigger]
    if found.status == Status.COMPLETED:
        more: dict[str, Any] = {"output": _plain(found.output or "null")}
        if found.continued_as is not None:
            more["continued_as"] = found.continued_as
        return _own(runtime, RUN_COMPLETED, found.id, found.flow, triggers, more)
    if found.status == Status.FAILED:
        failure = read_failure(found.error)
        return _own(runtime, RUN_FAILED, found.id, found.flow, triggers, {"error": failure.json()})
    return _own(runtime, RUN_CANCELLED, found.id, found.flow, [trigger], {"reason": found.reason or ""})


def _plain(text: str) -> Any:
    return json.loads(text)


def last_of(runtime: Runtime, run_id: str) -> str:
    """The run that goes on for this one by now, itself when none does."""
    with runtime.store.connection() as connection:
        return connection.repeat(lambda: connection.links.last_of(run_id)) or run_id


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A run that was cancelled: what is left to tell after the commit. `event` is ours, when somebody listens."""

    row: CancelledRow
    reason: str
    event: StoredEvent | None = None

    @property
    def run_id(self) -> str:
        """The run."""
        return self.row.id


def cancel_within(
    runtime: Runtime, tx: Connection, reasons: Mapping[str, str], *, past: Bound | None = None
) -> list[Cancelled]:
    """Cancel runs, each with its reason, in a transaction that holds their rows; those that had not ended.

    Every cancelling goes this way: by event, by hand, in bulk, by a bound (`past`: only those that are past it).
    """
    moved: list[tuple[CancelledRow, str]] = []
    for reason in dict.fromkeys(reasons.values()):
        runs = sorted(run_id for run_id, why in reasons.items() if why == reason)
        shown = storable(reason)
        moved += [(row, shown) for row in tx.runs.cancel(runs, shown, past=past)]
    if not moved:
        return []
    tx.branches.cancel_all([row.id for row, _ in moved])
    tx.cancels.close_all([row.id for row, _ in moved])
    if not told_within(runtime, tx, RUN_CANCELLED):
        return [Cancelled(row, reason) for row, reason in moved]
    triggers = tx.events.many(row.event_id for row, _ in moved)
    cancelled = [
        Cancelled(row, reason, _own_cancelled(runtime, row, reason, triggers.get(row.event_id)))
        for row, reason in moved
    ]
    tx.events.add_unrouted(_events(cancelled))
    return cancelled


def _own_cancelled(runtime: Runtime, row: CancelledRow, reason: str, trigger: StoredEvent | None) -> StoredEvent | None:
    if trigger is None:
        return None
    return _own(runtime, RUN_CANCELLED, row.id, row.flow, [trigger], {"reason": reason})


def _events(cancelled: Iterable[Cancelled]) -> list[StoredEvent]:
    return [one.event for one in cancelled if one.event is not None]


def committed(tx: Connection, tried: Mapping[str, Cancelled], found: Iterable[Cancelled]) -> list[Cancelled]:
    """After a try whose reply was lost: what our own commit cancelled, beside what was found now."""
    left = sorted(tried.keys() - {one.run_id for one in found})
    return [tried[run_id] for run_id in left if _is_cancelled(tx, tried[run_id])]


def _is_cancelled(tx: Connection, one: Cancelled) -> bool:
    outcome = tx.runs.outcome(one.run_id)
    return outcome is not None and (outcome.status, outcome.reason) == (Status.CANCELLED, one.reason)
