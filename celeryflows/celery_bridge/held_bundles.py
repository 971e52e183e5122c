"""Bundles that a busy worker has fetched and does not come to: their runs go on by messages of their own, elsewhere."""

import time
from collections.abc import Iterable
from typing import Any, Protocol

from celery.worker import state

from celeryflows.celery_bridge.bundling import TASK
from celeryflows.celery_bridge.fork_gate import GATE
from celeryflows.engine.runtime import Runtime
from celeryflows.model.runs import Delivery

# So many seconds a bundle may wait inside a worker, and how often one is looked for.
PATIENCE, EVERY = 1.0, 0.25


class Host(Protocol):
    """What sends."""

    @property
    def runtime(self) -> Runtime: ...


class HeldBundles:
    """Looks at what this worker has fetched and not begun."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._sent: frozenset[str] = frozenset()
        self._looked = float("-inf")

    def look(self) -> None:
        """Send the runs of those that have waited for too long, once. The bundle, when its time comes, finds them
        taken."""
        now = time.monotonic()
        if now - self._looked < EVERY:
            return
        self._looked = now
        late = {one.id: one for one in _waiting() if now - one.received > PATIENCE}
        for one in (late[id] for id in late.keys() - self._sent):
            flow, runs, _ = one.args
            with GATE:
                self._host.runtime.dispatcher.send_runs([Delivery(run, flow, alone=True) for run in runs])
        self._sent = frozenset(late)


def _waiting() -> Iterable[Any]:
    try:
        return [one for one in state.reserved_requests if one.name == TASK and one not in state.active_requests]
    except RuntimeError:
        # The set changed while we read it: at the next look.
        return []
