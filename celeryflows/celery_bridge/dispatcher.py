"""Messages to workers: one a run, carrying its id and nothing else that matters. Nothing here raises."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

from celery import Celery
from celery.backends.base import DisabledBackend
from kombu import pools
from kombu.utils import json

from celeryflows.model.runs import Delivery

logger = logging.getLogger("celeryflows")

HEADER = "flows"
REST = 1.0
# Publishing must come back soon when the broker is down: what is not sent, recovery sends.
QUICK = {
    "socket_connect_timeout": 1.0,
    "socket_timeout": 2.0,
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.1,
    "interval_max": 0.1,
}


class CeleryDispatcher:
    """Sends runs as Celery messages of the task that bears the flow's name, with the run's id as task id."""

    def __init__(self, app: Celery, send_options: Mapping[str, Mapping[str, Any]]) -> None:
        self._app = app
        self._send_options = send_options
        self._closed_until = 0.0
        self._connection: Any = None

    def send_runs(self, deliveries: Sequence[Delivery]) -> None:
        """One message for each; after a failure the broker gets a second's rest, and recovery sends what was left."""
        if time.monotonic() < self._closed_until:
            return
        try:
            with self._producer() as producer:
                for delivery in deliveries:
                    self._send(delivery, producer)
        except Exception as error:
            self._closed_until = time.monotonic() + REST
            logger.warning("the broker takes no messages (%s); the runs are kept and sent when it does", error)

    def run_suspended(self, run_id: str) -> None:
        """SUSPENDED in the result backend, so that AsyncResult tells it."""
        self._store_result(run_id, None, "SUSPENDED")

    def run_cancelled(self, run_id: str, reason: str) -> None:
        """REVOKED in the result backend, so that `.get()` never hangs."""
        backend = self._app.backend
        if isinstance(backend, DisabledBackend):
            return
        try:
            backend.mark_as_revoked(run_id, reason, store_result=True)
        except Exception as error:
            logger.warning("the result backend did not take the end of run %s: %s", run_id, error)

    def _store_result(self, run_id: str, value: Any, state: str) -> None:
        backend = self._app.backend
        if isinstance(backend, DisabledBackend):
            return
        try:
            backend.store_result(run_id, value, state)
        except Exception as error:
            logger.warning("the result backend did not take the state of run %s: %s", run_id, error)

    def _producer(self) -> Any:
        connection = self._connection
        if connection is None:
            connection = self._connection = quick_connection(self._app)
        return pools.producers[connection].acquire(block=True, timeout=5)

    def _send(self, delivery: Delivery, producer: Any) -> None:
        options = dict(self._send_options.get(delivery.flow, ()))
        if delivery.message:
            options |= json.loads(delivery.message)
        options |= {"task_id": delivery.run_id, "producer": producer, "retry": False, "headers": {HEADER: 1}}
        task = self._app.tasks.get(delivery.flow)
        if task is None:
            self._app.send_task(delivery.flow, (), {}, **options)
        else:
            cast(Any, type(task).__mro__[1]).apply_async(task, (), {}, **options)


def quick_connection(app: Celery) -> Any:
    """A connection to the broker that gives up within seconds."""
    options = dict(app.conf.broker_transport_options or {})
    url = str(app.conf.broker_write_url or app.conf.broker_url or "")
    if url.startswith(("redis", "rediss", "sentinel", "valkey")):
        options = {**QUICK, **options}
    return app.connection_for_write(transport_options=options, connect_timeout=1)
