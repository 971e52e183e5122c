"""What one process does at a time: a turn, a tick, a send. A fault stops it at a point, for good or until resumed.

Threads pass one baton: whoever may be stopped runs in one of its own, and only one runs at any time."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tests.simulation.link import Outage
from tests.simulation.messages import Bundle

# So many seconds in which it could have gone on: the simulation itself may be stopped for longer, and goes on.
HUNG_AFTER = 60
STORE_POINTS = frozenset({"begin", "before commit", "after commit", "before write", "after write", "read"})


class Killed(BaseException):
    """The process died here: nothing of it runs any more."""


@dataclass(frozen=True)
class Fault:
    """What happens at the point numbered `at`, counted from 0 or from the fault before: the child or its whole worker
    dies, the link breaks, the activity stops and may be resumed, or the turn is asked to go back to the queue."""

    kind: Literal["child dies", "worker dies", "outage", "stop", "yield"]
    at: int


Faults = tuple[Fault, ...]


class Activity:
    """One piece of work of a process. `run` is the run whose turn it is, `task` the message that brought it, `bundle`
    that one if it brought several."""

    def __init__(
        self,
        process: Any,
        work: Callable[[], Any],
        faults: Faults = (),
        run: str | None = None,
        task: str = "",
        bundle: Bundle | None = None,
    ) -> None:
        self.process = process
        self.run = run
        self.task = task
        self.bundle = bundle
        self.faults = faults
        self.is_dead = False
        self.is_done = False
        self.was_stopped = False
        self.error: BaseException | None = None
        self.work = work
        self._points = 0
        self._go = threading.Semaphore(0)
        self._back = threading.Semaphore(0)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Run until it ends or is stopped."""
        if any(fault.kind == "stop" for fault in self.faults):
            self._thread = threading.Thread(target=self._do, daemon=True)
            self._thread.start()
            self._wait()
        else:
            self._do()
        self._check()

    def resume(self, faults: Faults = ()) -> None:
        """Go on from where it was stopped."""
        self.faults, self._points = faults, 0
        self._go.release()
        self._wait()
        self._check()

    def touch(self, point: str) -> None:
        """The activity comes to a point."""
        if self.is_dead or self.process.is_dead:
            raise Killed
        self._points += 1
        if not self.faults or self._points <= self.faults[0].at:
            return
        kind = self.faults[0].kind
        if kind == "stop" and self._thread is not None and point != "before commit":
            self._next_fault()
            self.was_stopped = True
            self._back.release()
            self._go.acquire()
            if self.is_dead or self.process.is_dead:
                raise Killed
        elif kind == "outage" and point in STORE_POINTS:
            self._next_fault()
            raise Outage(f"the link broke: {point}")
        elif kind in ("child dies", "worker dies"):
            self.die(worker=kind == "worker dies")
            raise Killed

    def _next_fault(self) -> None:
        self.faults, self._points = self.faults[1:], 0

    def must_yield(self) -> bool:
        """True from the chosen point on, when the turn is asked to go back."""
        return bool(self.faults) and self.faults[0].kind == "yield" and self._points > self.faults[0].at

    def die(self, *, worker: bool) -> None:
        """The child dies, or its worker with all it does."""
        self.is_dead = True
        if worker or self.run is None:
            self.process.is_dead = True

    def _do(self) -> None:
        try:
            self.work()
        except Killed:
            self.is_dead = True
        except BaseException as error:
            self.error = error
        finally:
            self.is_done = True
            if self._thread is not None:
                self._back.release()

    def _wait(self) -> None:
        came_back = any(self._back.acquire(timeout=1.0) for _ in range(HUNG_AFTER))
        assert came_back, f"{self.process.name} hangs"

    def _check(self) -> None:
        if self.is_done and self._thread is not None:
            self._thread.join(HUNG_AFTER)
        error, self.error = self.error, None
        if error is not None and not (self.is_dead or self.process.is_dead):
            raise error
