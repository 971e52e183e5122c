"""One session of `flows dev`: keeps worker and pages up, restarts them when code changes, tells what happens."""

import json
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from rich.console import Console
from rich.text import Text

from celeryflows.cli.dev.lines import line_of
from celeryflows.cli.dev.nudge import Nudge
from celeryflows.cli.dev.pages import Pages
from celeryflows.cli.dev.processes import Child
from celeryflows.cli.dev.reload import CodeWatch
from celeryflows.console.activity import Activity
from celeryflows.console.workers import workers
from celeryflows.errors import StoreError

LOOK_EVERY = 0.2
# A step that is at work when the worker is told to end has so long to finish; the run goes on later.
WARM_SECONDS = 10.0
REST_AFTER_DEATH = 1.0


@dataclass(frozen=True, slots=True)
class WorkerCommand:
    """How the worker is started."""

    app: str
    settings: dict[str, Any] = field(default_factory=dict)
    options: Sequence[str] = ()

    def words(self) -> list[str]:
        """The command line."""
        module = ["-m", "celeryflows.cli.dev.worker_main", self.app, json.dumps(self.settings)]
        return [sys.executable, *module, *self.options]


class Session:
    """The loop. Told to stop once, it ends the worker warmly; twice, at once."""

    def __init__(
        self,
        command: WorkerCommand,
        activity: Activity,
        watch: CodeWatch | None,
        console: Console,
        pages: Pages | None = None,
    ) -> None:
        self.command = command
        self.activity = activity
        self.watch = watch
        self.console = console
        self.pages = pages
        self.nudge: Nudge | None = None
        self._stops = 0
        self._wake = threading.Event()
        self._worker: Child | None = None
        self._restart_at: float | None = 0.0
        self._kill_at: float | None = None
        self._lost_store = False
        self._ready = False

    def run(self) -> None:
        """Until it is told to stop."""
        with self._signals():
            try:
                if self.pages is not None:
                    self.pages.start()
                while not self._done():
                    self._tell_news()
                    self._look_for_changes()
                    self._look_after_worker()
                    self._wake.wait(LOOK_EVERY)
                    self._wake.clear()
            finally:
                if self._worker is not None:
                    self._worker.kill()
                if self.pages is not None:
                    self.pages.end()
        self._tell_news()

    def say(self, words: str, style: str = "bold") -> None:
        """A line of our own."""
        self.console.print(Text(f"flows dev  {words}", style=style), soft_wrap=True)

    def _done(self) -> bool:
        return self._stops > 0 and (self._stops > 1 or self._worker is None)

    def _tell_news(self) -> None:
        try:
            for news in self.activity.news():
                self.console.print(line_of(news), soft_wrap=True)
            self._tell_ready()
            if self.nudge is not None:
                self.nudge.send_left()
        except StoreError as error:
            if not self._lost_store:
                self.say(str(error), "red")
            self._lost_store = True
        else:
            self._lost_store = False

    def _tell_ready(self) -> None:
        if self._worker is None or self._ready:
            return
        if any(worker.pid == self._worker.pid and worker.alive for worker in workers(self.activity.runtime)):
            self._ready = True
            self.say(f"the worker is ready (pid {self._worker.pid})")

    def _look_for_changes(self) -> None:
        changed = self.watch.changed() if self.watch is not None else []
        if not changed or self._stops:
            return
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        self.say(f"{changed[0]}{more} changed: the worker starts anew")
        self._restart_at = 0.0
        self._ask_worker_to_end()
        if self.pages is not None:
            self.pages.renew()

    def _look_after_worker(self) -> None:
        worker, now = self._worker, time.monotonic()
        if worker is not None:
            code = worker.exit_code()
            if code is not None:
                self._worker_ended(code)
            elif self._kill_at is not None and now > self._kill_at:
                worker.kill()
        elif not self._stops and self._restart_at is not None and now >= self._restart_at:
            self._start_worker()

    def _start_worker(self) -> None:
        self._restart_at = self._kill_at = None
        self._worker, self._ready = Child(self.command.words()), False

    def _worker_ended(self, code: int) -> None:
        self._worker = None
        if self._stops or self._restart_at is not None:
            return
        if code < 0:
            self.say(f"the worker was killed ({signal.Signals(-code).name}); it starts anew", "yellow")
            self._restart_at = time.monotonic() + REST_AFTER_DEATH
        elif self.watch is not None and not self.watch.why_not:
            self.say(f"the worker ended with status {code}; it starts anew when the code changes", "red")
        else:
            self.say(f"the worker ended with status {code}", "red")
            self._stops = 1

    def _ask_worker_to_end(self) -> None:
        if self._worker is not None:
            self._worker.ask_to_end()
            self._kill_at = time.monotonic() + WARM_SECONDS

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stops += 1
        if self._stops == 1:
            self.say("stopping; steps at work have 10 s to finish (once more to stop at once)")
            self._ask_worker_to_end()
        self._wake.set()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, self._stop) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
