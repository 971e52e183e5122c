"""Messages that wait a moment: what their delivery takes on itself meanwhile is not sent."""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from celeryflows.model.runs import Delivery

logger = logging.getLogger("celeryflows")


@dataclass(frozen=True, slots=True)
class Patience:
    """So many seconds one unit may take before the messages of the others are sent; all that are done in passing."""

    one: float = 0.01
    all: float = 0.05


Send = Callable[[Sequence[Delivery]], None]


class Batch:
    """The messages of one delivery. `due` is when what is left is let go and sent, None when that was done."""

    def __init__(self, send: Send, let_go: Send, postman: "Postman", patience: Patience) -> None:
        self._send = send
        self._let_go = let_go
        self._postman = postman
        self._patience = patience
        self._lock = threading.Lock()
        self._waiting: dict[str, Delivery] = {}
        self._until = 0.0
        self.due: float | None = None

    def add(self, deliveries: Sequence[Delivery]) -> None:
        """They wait."""
        now = time.monotonic()
        with self._lock:
            if self.due is None:
                self._until = now + self._patience.all
            self._waiting |= {delivery.branch or delivery.run_id: delivery for delivery in deliveries}
            self.due = min(now + self._patience.one, self._until)
        self._postman.watch(self)

    def begin(self, path: str) -> bool:
        """This one is taken on, a branch by its path, a run by its id; False when its message is under way."""
        with self._lock:
            waited = self._waiting.pop(path, None) is not None
            if self.due is not None:
                self.due = min(time.monotonic() + self._patience.one, self._until)
            return waited

    def release(self) -> None:
        """Send what is left."""
        with self._lock:
            left, self._waiting, self.due = list(self._waiting.values()), {}, None
        try:
            self._let_go(left)
        finally:
            if left:
                self._send(left)


class Postman:
    """Sends what is due, in a thread that is started at first use; each process has its own."""

    def __init__(self) -> None:
        self._rounds: dict[int, _Round] = {}

    def watch(self, batch: Batch) -> None:
        """Send the batch when it is due."""
        pid = os.getpid()
        # Made at once for all threads; what a fork brought along is another process's.
        (self._rounds.get(pid) or self._rounds.setdefault(pid, _Round())).add(batch)


class _Round:
    """The batches of one process, and the thread that looks after them."""

    def __init__(self) -> None:
        self._batches: list[Batch] = []
        self._changed = threading.Condition()
        self._wakes: float | None = None
        self._is_started = False

    def add(self, batch: Batch) -> None:
        with self._changed:
            if not self._is_started:
                self._is_started = True
                threading.Thread(target=self._run, name="celeryflows-postman", daemon=True).start()
            if batch not in self._batches:
                self._batches.append(batch)
            if self._wakes is None or (batch.due is not None and batch.due < self._wakes):
                self._changed.notify()

    def _run(self) -> None:
        while True:
            for batch in self._late():
                try:
                    batch.release()
                except Exception:
                    # The thread serves all deliveries of its process; what this one holds, recovery finds.
                    logger.exception("what a delivery did not do in passing was not let go")

    def _late(self) -> list[Batch]:
        """Those that are due; waits until some may be."""
        with self._changed:
            now = time.monotonic()
            dues = {batch: due for batch in self._batches if (due := batch.due) is not None}
            self._batches = list(dues)
            late = [batch for batch, due in dues.items() if due <= now]
            if not late:
                self._wakes = min(dues.values(), default=None)
                self._changed.wait(None if self._wakes is None else self._wakes - now)
                self._wakes = now
            return late
