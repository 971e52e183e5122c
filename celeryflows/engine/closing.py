"""Windows close: debounced runs whose quiet has lasted, and batches whose time is over, are due.

Where a flow has both, the newest event of a debounce goes into its batch when the debounce closes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from celeryflows.engine import idempotency
from celeryflows.engine.catalog import Snapshot
from celeryflows.engine.finish import tell_skipped
from celeryflows.engine.pipeline import PAUSED
from celeryflows.engine.runtime import Runtime
from celeryflows.engine.starts import Start, a_start, joined_reason, told_key
from celeryflows.engine.window_writing import begin_batch, let_go, put_into
from celeryflows.engine.windows import gather
from celeryflows.flow_control.keys import Key
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
        judged, full = _gathered(tx, judged, window)
        _hold(tx, run, judged, full)
        _write(tx, catalog, judged, window, full)
        tried[:] = [judged]

    try:
        connection.transact(work)
    except PutOff:
        return
    for start in tried:
        if start.joined is not None:
            tell_skipped(runtime, start.skipped(joined_reason(start.joined)))
        elif start.run.status is Status.SKIPPED:
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


def _gathered(tx: Connection, start: Start, window: _Window) -> tuple[Start, Mapping[str, Key]]:
    """A debounce's newest event asks at its batch. Also the runs of batches that are full by it, each with its key."""
    if window.of_batch or start.limits.batch is None or not start.is_under_way:
        return start, {}
    caller = tx.batches.caller(start.run.id, start.event.id)
    (judged,), full = gather(tx, [replace(start, link=caller)])
    if judged.joined is not None and (key := idempotency.key_of(start)) is not None:
        tx.once.point(key.name, judged.joined)
    return judged, full


def _hold(tx: Connection, run: Scheduled, start: Start, full: Mapping[str, Key]) -> None:
    """Lock class 8: none of those that change may have been cancelled meanwhile, or the event would go with it."""
    concerned = {run.id, *full} if start.joined is None else {run.id, *full, start.joined}
    if len(concerned) > 1:
        tx.runs.lock(sorted(concerned))
    stand = {one.id: one.event_id for one in tx.windows.scheduled(sorted(concerned))}
    if stand.keys() != concerned or stand[run.id] != run.event_id:
        raise TransientError("another event came, or a run was cancelled, while the window closed")


def _write(tx: Connection, catalog: Snapshot, start: Start, window: _Window, full: Mapping[str, Key]) -> None:
    run_id = start.run.id
    if start.run.status is Status.SKIPPED:
        tx.windows.skip(run_id, start.run.reason or "")
        tx.cancels.close_all([run_id])
    elif start.joined is not None:
        put_into(tx, run_id, window.key, start.joined)
    else:
        if not window.of_batch:
            _take_gates(tx, catalog, start)
        if start.run.place is not None:
            begin_batch(tx, start, window.key)
        if not start.waits:
            let_go(tx, run_id, window.key, start.flow)
    for full_one, key in sorted(full.items()):
        let_go(tx, full_one, key.name, start.flow)


def _take_gates(tx: Connection, catalog: Snapshot, start: Start) -> None:
    """Its keys are those of the event that it starts with after all."""
    one, two = (*(gate.name for gate in catalog.gates.gates(start.run.flow, start.scope)), None, None)[:2]
    priority = head_start(start.limits.priority, start.run.flow, start.scope) or None
    tx.windows.put_gates(start.run.id, one, two, priority)
