"""A lock that no fork happens under: a thread inside SQLite or a logger while the pool forks deadlocks the child."""

import os
import threading


class ForkGate:
    """Hold it around short pieces of database, broker and logging work; a fork in this process waits for it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        os.register_at_fork(before=self._close, after_in_parent=self._open, after_in_child=self._renew)

    def __enter__(self) -> "ForkGate":
        self._lock.acquire()
        return self

    def __exit__(self, *exc: object) -> None:
        self._lock.release()

    def _close(self) -> None:
        self._lock.acquire()

    def _open(self) -> None:
        self._lock.release()

    def _renew(self) -> None:
        self._lock = threading.RLock()


GATE = ForkGate()
