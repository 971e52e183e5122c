"""Celery's `revoke` by id cancels a run, also one that sleeps: no message of it is under way to be revoked."""

import logging
import time
from typing import Protocol

from celery.worker import state

from celeryflows.celery_bridge.fork_gate import GATE
from celeryflows.errors import FlowsError, UnknownRun

logger = logging.getLogger("celeryflows")

EVERY = 1.0


class Host(Protocol):
    """What cancels."""

    def cancel(self, run_id: str, reason: str) -> bool: ...


class RevokedRuns:
    """Looks at the ids that this worker was told to revoke; each new one that is a run is cancelled in the store."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._seen: frozenset[str] = frozenset()
        self._looked = float("-inf")

    def look(self) -> None:
        """Cancel what was revoked since the last look."""
        if (not state.revoked and not self._seen) or time.monotonic() - self._looked < EVERY:
            return
        self._looked = time.monotonic()
        now = frozenset(map(str, tuple(state.revoked)))
        for run_id in now - self._seen:
            cancel_revoked(self._host, run_id)
        self._seen = now


def cancel_revoked(host: Host, run_id: str) -> None:
    """Cancel the run; an id that is no run's is Celery's affair."""
    try:
        with GATE:
            host.cancel(run_id, "revoked")
    except UnknownRun:
        return
    except FlowsError as error:
        logger.warning("a revoked run was not cancelled: %s", error)
