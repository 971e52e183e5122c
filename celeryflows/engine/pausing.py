"""Pause and resume of a flow: a fact of the store, which every sender knows with the next run that it starts."""

from collections.abc import Callable

from celeryflows.engine.bulk import check_flow
from celeryflows.engine.registrar import register_sender
from celeryflows.engine.runtime import Runtime
from celeryflows.store.connection import Connection


def pause(runtime: Runtime, flow: str) -> bool:
    """From the return of this on, whatever would start the flow makes a skipped run; False when it was paused before.

    Runs that are there go on. Raises UnknownFlow.
    """
    return _set(runtime, flow, lambda tx: tx.flows.pause(flow))


def resume(runtime: Runtime, flow: str) -> bool:
    """The flow starts again; False when it was not paused. What was skipped stays so. Raises UnknownFlow."""
    return _set(runtime, flow, lambda tx: tx.flows.resume(flow))


def _set(runtime: Runtime, flow: str, change: Callable[[Connection], bool]) -> bool:
    register_sender(runtime)
    check_flow(runtime, flow)
    changed = False

    def work(tx: Connection) -> bool:
        nonlocal changed
        tx.flows.touch()
        # An earlier try may have been committed, and only its reply lost.
        changed = change(tx) or changed
        return changed

    return runtime.store.transact(work)
