"""Short sleeps end in the process that began them: they are over before the leader looks for what it has not heard of.

Waking is a compare-and-set, so that the leader may do the same at the same moment."""

import heapq
import logging
import os
import threading
import time
from collections.abc import Collection, Sequence
from typing import Any

from celery import signals

from celeryflows.durations import SECOND
from celeryflows.engine.resume import wake_units
from celeryflows.engine.runtime import Runtime
from celeryflows.errors import StoreError
from celeryflows.scheduler.timers import EVERY, MARGIN
from celeryflows.store.branches import Unit

logger = logging.getLogger("celeryflows")

PATIENCE = 2.0
# What a process knows of the store's time runs ahead of it by a round trip: who is not due yet is asked for again.
AGAIN = (0.005, 0.02, 0.08)


class Alarm:
    """Wakes units in a thread that is started at first use; each process has its own."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._rounds: dict[int, _Round] = {}
        signals.worker_process_shutdown.connect(self.end)

    def set(self, unit: Unit, in_us: int) -> None:
        """Wake the unit then, if that is soon."""
        if in_us >= EVERY * SECOND:
            return
        pid = os.getpid()
        # Made at once for all threads; what a fork brought along is another process's.
        ours = self._rounds.get(pid) or self._rounds.setdefault(pid, _Round(self._runtime))
        ours.add(unit, time.monotonic() + in_us / SECOND + MARGIN)

    def end(self, **_: Any) -> None:
        """The process ends: who is being woken gets its message yet, the others are left to the leader."""
        ours = self._rounds.get(os.getpid())
        if ours is not None:
            ours.end()


class _Round:
    """The units of one process, and the thread that wakes them."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._due: list[tuple[float, int, Unit]] = []
        self._changed = threading.Condition()
        self._waking = threading.Lock()
        self._is_started = self._is_over = False

    def add(self, unit: Unit, at: float, tried: int = 0) -> None:
        with self._changed:
            if not self._is_started:
                self._is_started = True
                threading.Thread(target=self._run, name="celeryflows-alarm", daemon=True).start()
            heapq.heappush(self._due, (at, tried, unit))
            self._changed.notify()

    def end(self) -> None:
        self._is_over = True
        self._waking.acquire(timeout=PATIENCE)

    def _run(self) -> None:
        while True:
            tried = self._next()
            with self._waking:
                if self._is_over:
                    return
                woken = self._wake(list(tried))
            for unit, times in tried.items():
                if unit not in woken and times < len(AGAIN):
                    self.add(unit, time.monotonic() + AGAIN[times], times + 1)

    def _next(self) -> dict[Unit, int]:
        """Those that are due, and how often each was tried; waits until some are."""
        with self._changed:
            while not self._due or self._due[0][0] > time.monotonic():
                self._changed.wait(self._due[0][0] - time.monotonic() if self._due else None)
            now, units = time.monotonic(), dict[Unit, int]()
            while self._due and self._due[0][0] <= now:
                _, tried, unit = heapq.heappop(self._due)
                units[unit] = tried
            return units

    def _wake(self, units: Sequence[Unit]) -> Collection[Unit]:
        try:
            return wake_units(self._runtime, units)
        except StoreError as error:
            logger.info("short sleeps are left to the leader: %s", error)
        except Exception:
            logger.exception("short sleeps are left to the leader")
        return units
