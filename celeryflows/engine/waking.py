"""Waking: runs whose time has come are queued. Of those that start, singletons are asked then."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from celeryflows.engine.runtime import Runtime
from celeryflows.engine.singletons import singleton
from celeryflows.engine.starts import Start, a_start
from celeryflows.flow_control.singleton import replaced_reason
from celeryflows.model.flows import FlowDefinition
from celeryflows.model.runs import Delivery, NewRun, Status
from celeryflows.store.connection import Connection, TransientError


@dataclass(frozen=True, slots=True)
class Woken:
    """Messages of what was woken, what a singleton skipped, and the runs that are to be cancelled, with the reason."""

    deliveries: Sequence[Delivery] = ()
    skipped: Sequence[Start] = ()
    replaced: Mapping[str, str] = field(default_factory=dict)


def wake(runtime: Runtime, connection: Connection, due: Sequence[str]) -> Woken:
    """Queue suspended and scheduled runs whose time has come, in one transaction. Of timeout and event one wins."""
    asks = any(flow.limits.singleton for flow in _flows(runtime, connection))

    def work(tx: Connection) -> Woken:
        judged = _judged(runtime, tx, due) if asks else []
        skipped = [start for start in judged if start.run.status is Status.SKIPPED]
        replaced = {start.replaces: start.run.id for start in judged if start.replaces is not None}
        gone = {start.run.id for start in skipped}
        rest = [run_id for run_id in due if run_id not in gone]
        tx.runs.lock([*due, *replaced])
        told = [start for start in skipped if tx.windows.skip(start.run.id, start.run.reason or "")]
        woken = tx.runs.queue_due(rest)
        if not set(replaced.values()) <= {one.run_id for one in woken}:
            raise TransientError("a run was cancelled while it was to take the place of another")
        tx.waits.expire([delivery.run_id for delivery in woken])
        reasons = {run_id: replaced_reason(new) for run_id, new in replaced.items()}
        for run_id, reason in sorted(reasons.items()):
            tx.singletons.replaced(run_id, reason)
        return Woken(woken, told, reasons)

    return connection.transact(work)


def _flows(runtime: Runtime, connection: Connection) -> Sequence[FlowDefinition]:
    return list(runtime.catalog.recent(connection, runtime.clock.monotonic()).flows.values())


def _judged(runtime: Runtime, tx: Connection, due: Sequence[str]) -> list[Start]:
    catalog = runtime.catalog.read(tx)
    runs = [
        run
        for run in tx.windows.scheduled(list(due))
        if (flow := catalog.flows.get(run.flow)) is not None and flow.limits.singleton is not None
    ]
    events = tx.events.many(run.event_id for run in runs)
    starts = [
        a_start(
            runtime,
            catalog,
            # As far as its time is concerned it may start.
            NewRun(run.id, run.flow, run.version, Status.QUEUED, run.event_id, run.message),
            events[run.event_id],
        )
        for run in runs
        if run.event_id in events
    ]
    return singleton(tx, starts)
