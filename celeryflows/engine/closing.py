"""Windows close: debounced runs whose quiet has lasted, and batches whose time is over, are due."""

from dataclasses import dataclass

from celeryflows.engine import idempotency
from celeryflows.engine.catalog import Snapshot
from celeryflows.engine.finish import tell_skipped
from celeryflows.engine.pipeline import PAUSED
from celeryflows.engine.runtime import Runtime
from celeryflows.engine.starts import Start, a_start, told_key
from celeryflows.engine.window_writing import let_go
from celeryflows.flow_control.priority import head_start
from celeryflows.model.runs import NewRun, Status
from celeryflows.store.batches import Batches
from celeryflows.store.connection import Connection, TransientError
from celeryflows.store.debounces import Debounces
from celeryflows.store.windows import Scheduled


class PutOff(Exception):
    """It is not due after all."""


@dataclass(frozen=True, slots=True)
class _Window:
    """What closes: of a debounce or a batch."""

    key: str
    run_id: str
    of_batch: bool

    def verbs(self, tx: Connection) -> Debounces | Batches:
        return tx.batches if self.of_batch else tx.debounces


def close_due(runtime: Runtime) -> int:
    """Close the windows whose time has come, each in a transaction of its own; how many were looked at.

    Their runs are due then, and are woken with the others whose time has come.
    """
    with runtime.store.connection() as connection:
        due = [_Window(*one, of_batch=False) for one in connection.debounces.due()]
        due += [_Window(*one, of_batch=True) for one in connection.batches.due()]
        for window in due:
            _close(runtime, connection, window)
    return len(due)


def _close(runtime: Runtime, connection: Connection, window: _Window) -> None:
    tried: list[Start] = []

    def work(tx: Connection) -> None:
        run = next(iter(tx.windows.scheduled([window.run_id])), None)
        if run is None:
            # It was cancelled, or a try whose reply was lost has closed it.
            window.verbs(tx).fire(window.key, window.run_id)
            return
        catalog = runtime.catalog.read(tx)
        start = _start(runtime, tx, catalog, run)
        judged = _judge(tx, catalog, start, window)
        if not window.verbs(tx).fire(window.key, window.run_id):
            raise PutOff
        if [one.event_id for one in tx.windows.scheduled([window.run_id])] != [run.event_id]:
            raise TransientError("another event came while the window closed")
        _write(tx, catalog, judged, window)
        tried[:] = [judged]

    try:
        connection.transact(work)
    except PutOff:
        return
    for start in tried:
        if start.run.status is Status.SKIPPED:
            tell_skipped(runtime, start)


def _start(runtime: Runtime, tx: Connection, catalog: Snapshot, run: Scheduled) -> Start:
    new = NewRun(run.id, run.flow, run.version, Status.SCHEDULED, run.event_id, run.message)
    event = tx.events.get(run.event_id)
    if event is None:
        raise TransientError(f"the event of run {run.id} is gone")
    return a_start(runtime, catalog, new, event)


def _judge(tx: Connection, catalog: Snapshot, start: Start, window: _Window) -> Start:
    """By the limits that are asked when a window closes; a batch's keys were asked for each event."""
    if start.run.flow in catalog.paused:
        return start.skipped(PAUSED)
    key = None if window.of_batch else idempotency.key_of(start)
    holder = idempotency.take(tx, key, start.run.id) if key is not None else None
    return start if key is None or holder is None else start.skipped(idempotency.reason(told_key(tx, key), holder), key)


def _write(tx: Connection, catalog: Snapshot, start: Start, window: _Window) -> None:
    if start.run.status is Status.SKIPPED:
        tx.windows.skip(start.run.id, start.run.reason or "")
        return
    if not window.of_batch:
        # Its keys are those of the event that it starts with after all.
        one, two = (*(gate.name for gate in catalog.gates.gates(start.run.flow, start.scope)), None, None)[:2]
        priority = head_start(start.limits.priority, start.run.flow, start.scope) or None
        tx.windows.put_gates(start.run.id, one, two, priority)
    let_go(tx, start.run.id, window.key, start.flow)
