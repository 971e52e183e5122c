"""The broker's queues for people who look: where a run's message goes, and how long each queue is."""

import threading
import time
from collections.abc import Collection, Mapping

from celery import Celery

from celeryflows.celery_bridge.broker import CeleryBroker, queue_of
from celeryflows.model.runs import Delivery

# A page asks every two seconds, for each of its readers; a broker that is away is given a rest.
FRESH, REST = 1.0, 10.0


class CeleryQueues:
    """Asks over a connection of its own, opened for each look: a page's threads and a pool's children share none."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._known: dict[str, int | None] = {}
        self._away = False
        self._until = 0.0

    def queue_of(self, delivery: Delivery) -> str:
        """The queue that a run's message goes to."""
        return queue_of(self._app, delivery)

    def lengths(self, queues: Collection[str]) -> Mapping[str, int | None]:
        """How many messages each has that no worker has taken, a second old at most; None where it cannot be told."""
        with self._lock:
            now = time.monotonic()
            if now >= self._until or not (self._away or self._known.keys() >= set(queues)):
                self._known = self._ask(queues)
                self._until = now + (REST if self._away else FRESH)
            return {queue: self._known.get(queue) for queue in queues}

    def _ask(self, queues: Collection[str]) -> dict[str, int | None]:
        broker = CeleryBroker(self._app, "")
        try:
            self._away = not broker.answers()
            return {} if self._away else {queue: broker.length(queue) for queue in sorted(queues)}
        finally:
            broker.close()
