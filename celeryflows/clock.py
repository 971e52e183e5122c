"""The clock that a runtime carries: the real one, or one that a test turns."""

import threading
import time
from typing import Protocol


class Clock(Protocol):
    def now(self) -> int:
        """Epoch microseconds."""
        ...

    def monotonic(self) -> float:
        """Seconds since some start; never goes back."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> int:
        return time.time_ns() // 1_000

    def monotonic(self) -> float:
        return time.monotonic()


class TurnedClock:
    """A clock that stands still until it is turned; it starts at `start` (epoch us), else at the real time."""

    def __init__(self, start: int | None = None) -> None:
        self._lock = threading.Lock()
        self._now = SystemClock().now() if start is None else start
        self._elapsed = 0

    def now(self) -> int:
        with self._lock:
            return self._now

    def monotonic(self) -> float:
        with self._lock:
            return self._elapsed / 1_000_000

    def turn(self, by: int) -> None:
        """Move on by microseconds. Raises ValueError for a negative number."""
        if by < 0:
            raise ValueError(f"a clock is turned forward only, got {by} us; set(at) moves it anywhere")
        with self._lock:
            self._move(self._now + by)

    def set(self, at: int) -> None:
        """Move to epoch microseconds, back as well: as an operator or NTP may set a machine's clock."""
        with self._lock:
            self._move(at)

    def _move(self, at: int) -> None:
        self._elapsed += max(0, at - self._now)
        self._now = at
