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

# A look takes seconds; one that takes longer is told of, again and again.
PATIENCE = 120.0


class TaskWatch:
    """At most one thread at a time; timers never wait for it."""

    def __init__(self, runtime: Runtime, broker: Broker, gate: AbstractContextManager[Any]) -> None:
        self._tasks = LostTasks(runtime, gate, self._may_be_answered)
        self._runtime = runtime
        self._broker = broker
        self._thread: threading.Thread | None = None
        self._told_at = 0.0

    def start(self) -> None:
        """Look in another thread, when something is due and nobody looks yet. Raises StoreError."""
        if self._is_looking():
            return
        with self._runtime.store.connection() as connection:
            if not connection.tasks.due(1):
                return
        self._thread = threading.Thread(target=self._look, name="celeryflows-tasks", daemon=True)
        self._thread.start()
        self._told_at = time.monotonic()

    def _is_looking(self) -> bool:
        if self._thread is None or not self._thread.is_alive():
            return False
        if time.monotonic() - self._told_at > PATIENCE:
            self._told_at = time.monotonic()
            logger.error(
                "the look after tasks waits for a broker or a result backend that does not answer, and tasks that were "
                "lost wait with it; give that a timeout, and restart this worker if it lasts"
            )
        return True

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
