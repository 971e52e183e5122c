"""How long the runs of each flow have taken lately, as far as the leader has counted: who sends many may ask."""

import logging
import threading

from celeryflows.clock import Clock
from celeryflows.durations import MINUTE
from celeryflows.errors import StoreError
from celeryflows.store.database import Store

logger = logging.getLogger("celeryflows")

# Counted runs are read again after so many seconds. Lately: microseconds; and of how many one is worth something.
FRESH_FOR = 5.0
LATELY = 10 * MINUTE
WORTH = 50


class Paces:
    """A cache for one process."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, int] = {}
        self._until = float("-inf")

    def of(self, flow: str) -> int | None:
        """The mean of the flow's runs in microseconds, from the first turn to the end; None when it is not known."""
        with self._lock:
            now = self._clock.monotonic()
            if now >= self._until:
                self._until = now + FRESH_FOR
                try:
                    with self._store.connection() as connection:
                        self._known = connection.figures.paces(LATELY, WORTH)
                except StoreError as error:
                    logger.info("how long runs take is not known: %s", error)
            return self._known.get(flow)
