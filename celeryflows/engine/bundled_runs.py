"""The runs of one bundle: a delivery takes one after the other, and the end of one claims the next, where it can."""

import random
import threading
from collections import deque
from collections.abc import Callable, Sequence

from celeryflows.engine.aftermath import left_to_recovery
from celeryflows.engine.runtime import LetGo, Postponed, Runtime
from celeryflows.model.runs import Delivery
from celeryflows.store.bundles import NextRun
from celeryflows.store.connection import Connection
from celeryflows.store.executor import Row
from celeryflows.store.runs import Claim


class BundledRuns:
    """The runs that came by one message, which tells apart `carrier`, in their order. Each has a message of its own
    that waits, and is sent when what is before it takes its time.

    `heard_at`: when the store was asked for the clock of the claim that `claim` gives, by this process's monotonic one.
    """

    def __init__(
        self, runtime: Runtime, carrier: str, runs: Sequence[Delivery], messages: Callable[[LetGo], Postponed]
    ) -> None:
        self.carrier = carrier
        self.heard_at = 0.0
        self._runtime = runtime
        self._left = deque(runs)
        self._messages = messages(self._let_go)
        self._messages.add(runs)
        # The run that was claimed with an end, and the row that tells so; the thread that sends what is late asks too.
        self._next: NextRun | None = None
        self._rows: list[Row] = []
        self._lock = threading.Lock()

    def begin(self) -> bool:
        """The first that is left is taken on; False when its message is under way, and with it all behind."""
        return self._messages.begin(self._left.popleft().run_id)

    def release(self) -> None:
        """Send what is left."""
        self._messages.release()

    def after(self, run_id: str) -> NextRun | None:
        """The run to claim with the end of this one, if any is and may be. Never a lock behind one that is after it."""
        if not self._left or self._left[0].run_id <= run_id or not self._messages.begin(self._left[0].run_id):
            return None
        with self._lock:
            # A second try, after one whose reply was lost, may find its claim made.
            self._next = self._next or NextRun(self._left[0].run_id, random.getrandbits(62), self.carrier)
            return self._next

    def follow(self, rows: list[Row], heard_at: float) -> None:
        """The end was tried, and with it the claim: `rows` tell that it was made. If what the task does after its turn
        takes its time, the next run is let go."""
        self._rows, self.heard_at = rows, heard_at
        self._messages.add([self._left[0]])

    def token(self, run_id: str) -> int | None:
        """That of the claim which was tried for this run with the end of the one before."""
        return self._next.token if self._next is not None and self._next.id == run_id else None

    def claim(self, connection: Connection, run_id: str) -> Claim | None:
        """The claim that was made so. Raises PayloadLocked."""
        with self._lock:
            next, rows = self._next, self._rows
            if next is None or next.id != run_id:
                return None
            self._next = None
        if rows:
            return connection.bundles.read(next, self._runtime.worker, rows)
        # It was not to be had, or only the reply was lost.
        self.heard_at = self._runtime.clock.monotonic()
        return connection.repeat(lambda: connection.runs.claimed(run_id, self._runtime.worker, next.token))

    def _let_go(self, deliveries: Sequence[Delivery]) -> None:
        """What was claimed and did not begin is to be had again, before its message is sent."""
        with self._lock:
            next = self._next
            if next is None or next.id not in {one.run_id for one in deliveries}:
                return
            self._next = None
        with left_to_recovery(), self._runtime.store.connection() as connection:
            connection.repeat(lambda: connection.bundles.give_back(next))
