"""What the result backend is told of a run outside Celery's own tasks: that it sleeps, was cancelled or given up."""

import logging
import os
import time
from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.app.task import Context
from celery.backends.base import DisabledBackend
from kombu.utils import json

logger = logging.getLogger("celeryflows")

REST = 1.0
# What a request calls the options of the call that made it.
OF_REQUEST = {
    "callbacks": "link",
    "errbacks": "link_error",
    "chord": "chord",
    "group": "group_id",
    "group_index": "group_index",
    "root_id": "root_id",
    "parent_id": "parent_id",
    "chain": "chain",
    "reply_to": "reply_to",
    "ignore_result": "ignore_result",
}
QUICK_RETRIES = {"max_retries": 1, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.1}
QUICK_SOCKET = {"socket_timeout": 2.0, "socket_connect_timeout": 1.0}


class ResultWriter:
    """A backend of its own that gives up within seconds: Celery's waits for a lost Redis for minutes. Never raises."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._backend: Any = None
        self._pid = 0
        self._closed_until = 0.0

    def write(self, run_id: str, call: Callable[[Any], object]) -> bool:
        """Call with the backend; False when there is none, or when it does not answer."""
        if isinstance(self._app.backend, DisabledBackend) or time.monotonic() < self._closed_until:
            return False
        try:
            call(self._quick_backend())
        except Exception as error:
            self._closed_until = time.monotonic() + REST
            logger.warning("the result backend does not answer for run or task %s: %s", run_id, error)
            return False
        return True

    def read(self, task_id: str) -> dict[str, Any] | None:
        """What is stored of a task; None when there is no backend, or when it does not answer."""
        found: list[dict[str, Any]] = []
        asked = self.write(task_id, lambda backend: found.append(backend.get_task_meta(task_id)))
        return found[0] if asked and found else None

    def _quick_backend(self) -> Any:
        # A forked child shares no socket with its parent.
        if self._backend is None or self._pid != os.getpid():
            backend = self._app._get_backend()
            parameters = getattr(backend, "connparams", None)
            if isinstance(parameters, dict) and "socket_timeout" in parameters:
                parameters.update(QUICK_SOCKET)
                backend.retry_policy = QUICK_RETRIES
            self._backend, self._pid = backend, os.getpid()
        return self._backend


def request_of(run_id: str, message: str | None) -> Any:
    """The request that Celery would have had: by it a chord learns of its member, and errbacks are called."""
    kept = json.loads(message) if message else {}
    named = {theirs: kept[ours] for theirs, ours in OF_REQUEST.items() if ours in kept}
    return Context(named, id=run_id) if named else None
