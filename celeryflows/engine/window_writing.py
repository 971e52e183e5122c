"""What changes for runs that wait in windows: their event, who waits for them, and that their batch is full."""

from celeryflows.engine.pipeline import PAUSED, Judged
from celeryflows.engine.starts import Start, joined_reason
from celeryflows.model.cancels import cancel_waits
from celeryflows.model.flows import FlowDefinition
from celeryflows.model.waits import OpenWait
from celeryflows.store.connection import Connection, TransientError
from celeryflows.store.standings import DOOR


def write_windows(tx: Connection, judged: Judged) -> list[OpenWait]:
    """Write it, after the new runs: some of them wait in these windows too. What waits to cancel them anew."""
    cancels: list[OpenWait] = []
    for start in judged.starts:
        run_id = start.joined or start.run.id
        if start.limits.debounce is not None and (start.is_under_way or start.joined is not None):
            tx.batches.add_event(run_id, start.event.id, 0, start.link)
        if start.joined is None:
            continue
        if start.link is not None and not tx.windows.owe(run_id, start.link):
            raise _gone(run_id)
        if start.renews:
            cancels += _renew(tx, run_id, start)
    flows = {start.run.flow: start.flow for start in judged.starts}
    for run_id, key in sorted(judged.full.items()):
        if run_id in judged.paused:
            tx.windows.skip(run_id, PAUSED)
        else:
            let_go(tx, run_id, key.name, flows.get(key.flow))
    return cancels


def let_go(tx: Connection, run_id: str, window: str, flow: FlowDefinition | None) -> bool:
    """A window closed: its run is due; False when it was cancelled meanwhile."""
    door = DOOR if flow is not None and flow.limits.throttle is not None else None
    within = flow.timeouts.start_us if flow is not None and flow.timeouts is not None else None
    return tx.windows.let_go(run_id, window, door, within)


def begin_batch(tx: Connection, start: Start, window: str) -> None:
    """A debounce closed, and its run begins a batch with the event that is its newest; it may be full with that."""
    held = start.run.place.held_at if start.run.place is not None else None
    tx.windows.begin_batch(start.run.id, window, held or window)
    tx.batches.keep_only(start.run.id, start.event.id)


def put_into(tx: Connection, run_id: str, window: str, batch: str) -> None:
    """A debounce closed, and its event is in another's batch: that run goes on for the debounced one, and tells who
    waits for it. What would have cancelled the debounced run alone does not count any more."""
    if not tx.windows.join(run_id, window, batch, joined_reason(batch)):
        raise _gone(run_id)
    tx.batches.take_over(run_id, batch)
    for link in tx.batches.callers(run_id)[:1]:
        tx.windows.owe(batch, link)
    tx.cancels.close_all([run_id])


def _renew(tx: Connection, run_id: str, start: Start) -> list[OpenWait]:
    if not tx.windows.put_event(run_id, start.event.id):
        raise _gone(run_id)
    if start.flow is None or not start.flow.cancel_on:
        return []
    tx.cancels.disarm(run_id)
    return tx.cancels.arm(run_id, cancel_waits(start.flow.cancel_on, start.event.data), start.event)


def _gone(run_id: str) -> TransientError:
    """The next try opens a new window."""
    return TransientError(f"run {run_id} was cancelled while an event was to join it")
