"""`celery -A shop flows dev` as a process in a folder of its own, with what it prints and all that it starts."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from celery import Celery

from celeryflows import Flows
from tests.servers import LEASH
from tests.waiting import eventually
from tests.workers import children_of, parent_of

SHOP = """
from celery import Celery
from celeryflows import Flows

app = Celery("shop", broker={broker!r})
app.conf.update(flows_store_url={store!r}, flows_beat_every="1s", flows_dead_after="4s", flows_leader_lease="4s")
flows = Flows(app)


@flows.flow(name="greet", trigger="user/came")
def greet(ctx):
    ctx.step.run("say", str, {greeting!r})
    ctx.step.sleep("pause", ctx.event.data.get("pause", "10ms"))
    return {greeting!r} + ctx.event.data["name"]
"""
WITHOUT_REDIS = (
    "import sys, celeryflows.cli.dev.brokers as brokers; brokers.redis_binary = lambda: None; "
    "from celery.__main__ import main; sys.exit(main())"
)


class Dev:
    """One session. `broker` and `store` are the app's own; `python` may replace the way to celery's main."""

    def __init__(
        self,
        folder: Path,
        broker: str | None,
        *options: str,
        store: str = "",
        python: tuple[str, ...] = ("-m", "celery"),
    ) -> None:
        self.folder = folder
        self.broker = broker
        self.store = store or f"sqlite:///{folder / 'store.sqlite3'}"
        self._log = folder / "dev.log"
        self.write("hello ")
        leash = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), "", str(int(signal.SIGTERM))]
        command = [
            sys.executable,
            *python,
            "-A",
            "shop",
            "flows",
            "dev",
            "--concurrency",
            "2",
            *pages_of(options),
            *options,
        ]

        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*leash, *command],
                cwd=folder,
                env={**os.environ, "TZ": "UTC"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._process.pid
        self.started: set[int] = set()

    def write(self, greeting: str, more: str = "") -> None:
        """Write the app's module anew."""
        text = SHOP.format(broker=self.broker, store=self.store, greeting=greeting) + more
        (self.folder / "shop.py").write_text(text)

    @property
    def log(self) -> str:
        """All that was printed."""
        return self._log.read_text(errors="replace")

    def says(self, words: str, times: int = 1, within: float = 40.0) -> None:
        """Wait until it has printed this so often."""

        def said() -> bool:
            assert self._process.poll() is None or self.log.count(words) >= times, self.log
            return self.log.count(words) >= times

        try:
            eventually(said, within=within, every=0.05)
        except AssertionError as error:
            raise AssertionError(f"not {times} x {words!r} in:\n{self.log}") from error

    def ready(self, times: int = 1) -> None:
        """Wait until its worker has come up so often."""
        self.says("the worker is ready", times)
        self.started |= {self.pid, *descendants(self.pid)}

    def worker_pid(self) -> int:
        """The id of the worker that is up now."""
        return int(self.log.rpartition("ready (pid ")[2].partition(")")[0])

    def client(self) -> Celery:
        """The app as another process of it has it."""
        app = Celery("shop", broker=self.broker, set_as_current=False)
        app.conf.flows_store_url = self.store
        Flows(app)
        return app

    def send(self, **data: object) -> str:
        """Send the event from outside, as a web process would; the id of its run."""
        app = self.client()
        try:
            app.flows.send("user/came", data)
            return str(app.flows.runs(limit=1)[0].id)
        finally:
            app.flows.runtime.store.dispose()
            app.close()

    def signal(self, number: signal.Signals) -> None:
        """Signal the session itself."""
        os.kill(self.pid, number)

    def wait_end(self, within: float = 30.0) -> int:
        """Its exit code, once it has ended."""
        return self._process.wait(within)

    def left(self) -> set[int]:
        """Which of the processes that it started are still there."""
        return {pid for pid in self.started if parent_of(pid) is not None and not _is_zombie(pid)}

    def end(self) -> None:
        """End whatever is left of it."""
        for pid in {self.pid, *descendants(self.pid), *self.started}:
            with suppress(ProcessLookupError):
                if pid == self.pid and self._process.returncode is not None:
                    continue
                os.kill(pid, signal.SIGKILL)
        self._process.wait(10)


def pages_of(options: tuple[str, ...]) -> tuple[str, ...]:
    """Pages only where a test asks for them: each is a process more that starts."""
    return () if "--port" in options else ("--no-dashboard",)


def descendants(pid: int) -> set[int]:
    """All processes below one."""
    children = children_of(pid)
    return {*children, *(found for child in children for found in descendants(child))}


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@contextmanager
def developing(folder: Path, broker: str | None, *options: str, **more: Any) -> Iterator[Dev]:
    """A session for a block; nothing of it outlives the block."""
    dev = Dev(folder, broker, *options, **more)
    try:
        yield dev
    finally:
        dev.end()
