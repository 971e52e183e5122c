"""The leader's look after tasks that runs have sent: in a thread of its own, for it asks brokers, workers, backends."""

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from celeryflows.engine.lost_tasks import LostTasks
from celeryflows.engine.runtime import Runtime
from celeryflows.errors import StoreError
from celeryflows.model.remote_tasks import SentTask
from celeryflows.scheduler.sweeper import Broker

logger = logging.getLogger("celeryflows")


class TaskWatch:
    """At most one thread at a time; timers never wait for it."""

    def __init__(self, runtime: Runtime, broker: Broker, gate: AbstractContextManager[Any]) -> None:
        self._tasks = LostTasks(runtime, gate, self._may_be_answered)
        self._runtime = runtime
        self._broker = broker
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Look in another thread, when something is due and nobody looks yet. Raises StoreError."""
        if self._thread is not None and self._thread.is_alive():
            return
        with self._runtime.store.connection() as connection:
            if not connection.tasks.due(1):
                return
        self._thread = threading.Thread(target=self._look, name="celeryflows-tasks", daemon=True)
        self._thread.start()

    def _look(self) -> None:
        try:
            self._tasks.look()
        except StoreError as error:
            logger.warning("tasks were not looked after: %s", error)
        except Exception:
            logger.exception("the look after tasks failed; it is tried again")

    def _may_be_answered(self, tasks: Sequence[SentTask]) -> set[str]:
        """The answer's message may wait in the queue of its run."""
        now = time.monotonic()
        return {one.id for one in tasks if self._may_wait(self._broker.queue_of(one.delivery), one.id, now)}

    def _may_wait(self, queue: str, task_id: str, since: float) -> bool:
        return self._broker.length(queue) != 0 and self._broker.holds(queue, task_id, since) is not False
