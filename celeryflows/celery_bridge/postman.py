"""Messages that wait a moment: what their delivery takes on itself meanwhile is not sent."""

import os
import threading
import time
from collections.abc import Callable, Sequence

from celeryflows.model.runs import Delivery

# One branch may take so long before the messages of the others are sent; all that are done in passing so long.
ONE, ALL = 0.01, 0.05

Send = Callable[[Sequence[Delivery]], None]


class Batch:
    """The messages of one delivery. `due` is when they are sent, None when none is left."""

    def __init__(self, send: Send, postman: "Postman") -> None:
        self._send = send
        self._postman = postman
        self._lock = threading.Lock()
        self._waiting: dict[str, Delivery] = {}
        self._until = 0.0
        self.due: float | None = None

    def add(self, deliveries: Sequence[Delivery]) -> None:
        """They wait."""
        now = time.monotonic()
        with self._lock:
            if not self._waiting:
                self._until = now + ALL
            self._waiting |= {delivery.branch: delivery for delivery in deliveries}
            self.due = min(now + ONE, self._until)
        self._postman.watch(self)

    def begin(self, path: str) -> None:
        """This one is taken on."""
        with self._lock:
            self._waiting.pop(path, None)
            self.due = min(time.monotonic() + ONE, self._until) if self._waiting else None

    def release(self) -> None:
        """Send what is left."""
        with self._lock:
            left, self._waiting, self.due = list(self._waiting.values()), {}, None
        if left:
            self._send(left)


class Postman:
    """A thread that sends what is due; started at first use, anew in each process."""

    def __init__(self) -> None:
        self._pid = 0
        self._batches: list[Batch] = []
        self._call = threading.Condition()

    def watch(self, batch: Batch) -> None:
        """Send the batch when it is due."""
        if self._pid != os.getpid():
            self._start()
        with self._call:
            if batch not in self._batches:
                self._batches.append(batch)
            self._call.notify()

    def _start(self) -> None:
        self._call = threading.Condition()
        self._batches = []
        self._pid = os.getpid()
        threading.Thread(target=self._run, name="celeryflows-postman", daemon=True).start()

    def _run(self) -> None:
        while True:
            now = time.monotonic()
            with self._call:
                self._batches = [batch for batch in self._batches if batch.due is not None]
                late = [batch for batch in self._batches if batch.due is not None and batch.due <= now]
                if not late:
                    dues = [batch.due for batch in self._batches if batch.due is not None]
                    self._call.wait(max(0.0, min(dues) - now) if dues else None)
            for batch in late:
                batch.release()
