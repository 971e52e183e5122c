"""A child process in a session of its own, which never outlives us: leashed, asked to end, at last killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from celeryflows.cli.dev import leash


class Child:
    """One child. Start it from the main thread: the kernel's leash is held by the thread that started it."""

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str] | None = None, output: IO[bytes] | None = None
    ) -> None:
        prefix = [sys.executable, "-I", "-S", str(Path(leash.__file__)), str(os.getpid()), str(int(signal.SIGTERM))]
        self._process = subprocess.Popen(
            [*prefix, *command],
            env=None if env is None else dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output is not None else None,
            start_new_session=True,
        )
        self.pid = self._process.pid

    def exit_code(self) -> int | None:
        """None while it runs; minus the signal's number when one ended it. What it left of its group is killed."""
        if self._process.returncode is None and self._has_ended():
            self._kill_group()
            self._process.wait()
        return self._process.returncode

    def ask_to_end(self) -> None:
        """SIGTERM to the child itself."""
        if self.exit_code() is None:
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to all of its group at once."""
        if self._process.returncode is None:
            self._kill_group()
            self._process.wait()

    def end(self, within: float) -> int:
        """Ask it to end, kill it when it has not within so many seconds; its exit code."""
        self.ask_to_end()
        until = time.monotonic() + within
        while self.exit_code() is None and time.monotonic() < until:
            time.sleep(0.02)
        self.kill()
        return int(self._process.returncode)

    def _has_ended(self) -> bool:
        if not hasattr(os, "waitid"):
            return self._process.poll() is not None
        # Not reaped before its group is killed: until then nobody else can get the group's id.
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
