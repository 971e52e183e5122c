"""Starting a flow by its name, once for each key that the caller gives."""

from typing import Any

from celeryflows.console.lookups import run
from celeryflows.engine.runtime import Runtime
from celeryflows.engine.starting import Call, call_event, start
from celeryflows.errors import FlowsError, InvalidEvent, UnknownRun
from celeryflows.ids import derived_id

KEY_BOUND = 256


class KeyTaken(FlowsError, ValueError):
    """The same key was used for other data; nothing was started."""


def invoke(runtime: Runtime, flow: str, data: Any = None, *, key: str | None = None) -> str:
    """Start a flow with this data (an object, or None for {}); the run's id.

    `key` starts it once: with the same one and the same data it is the same run, as long as the store keeps it.
    Raises UnknownFlow, InvalidEvent, KeyTaken for other data under the key, or StoreUnavailable.
    """
    if key is not None and not (0 < len(key) <= KEY_BOUND and key.isprintable()):
        raise InvalidEvent(f"an idempotency key is a printable text of 1 to {KEY_BOUND} characters")
    run_id = None if key is None else derived_id("invoke", flow, key)
    started = start(runtime, Call(flow, call_event((data,), {}), run_id))
    # Middleware may have changed what was stored: then there is nothing to compare.
    if run_id is not None and started == run_id and not runtime.middleware:
        _check_data(runtime, run_id, data or {})
    return started


def _check_data(runtime: Runtime, run_id: str, data: Any) -> None:
    try:
        found = run(runtime, run_id)
    except UnknownRun:
        return
    if found.event is not None and found.event.data != data:
        raise KeyTaken(f"The run {run_id} was started under this idempotency key with other data.")
