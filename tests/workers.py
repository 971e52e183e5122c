"""Real Celery workers as processes. None outlives its block or its test process.

`with running_worker("tests.celery.apps.shop", "-c", "2", env=world.env) as worker:` gives pid, log, kill, stop."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.servers import LEASH, temporary_folder
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parent.parent
QUIET = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=INFO")
READY = " ready."
START_SECONDS = 60.0


class WorkerDied(AssertionError):
    """The worker ended while it was starting; the message holds the end of its log."""


class Worker:
    """One `celery worker` in a session of its own."""

    def __init__(self, app_module: str, options: tuple[str, ...], env: Mapping[str, str], folder: Path) -> None:
        self._log = folder / "worker.log"
        leash = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), "", str(int(signal.SIGKILL))]
        celery = [sys.executable, "-m", "celery", "-A", app_module, "worker", *QUIET, *options]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*leash, *celery],
                cwd=ROOT,
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._process.pid

    @property
    def log(self) -> str:
        """All that it has written."""
        return self._log.read_text(errors="replace")

    @property
    def children(self) -> list[int]:
        """The ids of its pool's processes."""
        return children_of(self.pid)

    @property
    def exit_code(self) -> int | None:
        """None while it runs; minus the signal's number when one ended it."""
        ended = self._ended()
        return None if ended is None else ended

    def wait_ready(self) -> None:
        """Wait for the line that it writes when it consumes. Raises WorkerDied when it ends instead."""
        eventually(self._is_ready, within=START_SECONDS, every=0.05)

    def wait_end(self, within: float = 30.0) -> int:
        """Wait until it has ended by itself; its exit code."""
        eventually(lambda: self.exit_code is not None, within=within, every=0.05)
        code = self.exit_code
        assert code is not None
        return code

    def signal(self, number: signal.Signals) -> None:
        """Signal its main process alone, as a service manager does."""
        if self.exit_code is None:
            os.kill(self.pid, number)

    def freeze(self) -> None:
        """Stop all its processes where they stand."""
        os.killpg(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        os.killpg(self.pid, signal.SIGCONT)

    def stop(self, within: float = 30.0) -> int:
        """A warm shutdown; the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait_end(within)

    def kill(self) -> None:
        """kill -9 of every process of it."""
        # Its main process is not reaped before: until then nobody else can get the group's id.
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def end(self) -> None:
        """End whatever is left of it."""
        self.kill()
        self._process.wait(10)

    def _ended(self) -> int | None:
        found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is None:
            return None
        return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status

    def _is_ready(self) -> bool:
        if self.exit_code is not None:
            raise WorkerDied(f"the worker ended with {self.exit_code} while starting:\n{self.log[-4000:]}")
        return READY in self.log


@contextmanager
def starting_worker(app_module: str, *options: str, env: Mapping[str, str]) -> Iterator[Worker]:
    """A worker that was started and is not waited for: it may refuse to start."""
    with temporary_folder("worker") as folder:
        worker = Worker(app_module, options, env, folder)
        try:
            yield worker
        finally:
            worker.end()


@contextmanager
def running_worker(app_module: str, *options: str, env: Mapping[str, str]) -> Iterator[Worker]:
    """A worker that consumes. Raises WorkerDied."""
    with starting_worker(app_module, *options, env=env) as worker:
        worker.wait_ready()
        yield worker


def children_of(pid: int) -> list[int]:
    """The ids of a process's children, by /proc."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and parent_of(int(folder.name)) == pid:
            found.append(int(folder.name))
    return sorted(found)


def parent_of(pid: int) -> int | None:
    """The parent's id; None when the process has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name in brackets may hold anything, blanks too.
    return int(stat.rpartition(")")[2].split()[1])
