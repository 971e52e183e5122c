"""The processes of one peer: its own servers, its workers, and the client that is told what to do.

Whose turn it is not is frozen (SIGSTOP): a peer that polls weighs on nobody else's figures."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from benchmarks.peers import processes
from benchmarks.peers.packages import ROOT
from tests.servers import Server, temporary_folder

POLITE = [signal.SIGTERM, signal.SIGKILL]


class PeerFailed(Exception):
    """The peer could not do what it was asked; the message holds what it said."""


class Crew:
    """What one peer runs on, from start to end."""

    def __init__(self, name: str, folder: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.folder = folder
        self._environment = {"PYTHONPATH": str(ROOT), **environment}
        self._servers: list[Server] = []
        self.kinds: list[str] = []
        self._client: subprocess.Popen[str] | None = None

    def knows(self, **more: str) -> None:
        """Add to the environment of what is started from now on."""
        self._environment |= more

    def run(self, command: list[str]) -> None:
        """Run a command to its end. Raises PeerFailed."""
        done = subprocess.run(
            command, env={**os.environ, **self._environment}, cwd=self.folder, capture_output=True, text=True
        )
        if done.returncode:
            raise PeerFailed(done.stderr[-3000:])

    def start(self, name: str, command: list[str]) -> None:
        """Start a server or a worker of the peer."""
        words = [f"{key}={value}" for key, value in self._environment.items()]
        server = Server(name, self.folder, ["/usr/bin/env", *words, *command], POLITE)
        self._servers.append(server)
        server.start(lambda: True)

    def employ(self, command: list[str]) -> None:
        """Start the client, which ends with this process, and learn what it can do. Raises PeerFailed."""
        log = (self.folder / "client.log").open("w")
        self._client = subprocess.Popen(
            command,
            env={**os.environ, **self._environment},
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        log.close()
        self.kinds = self._reply()["kinds"]

    def ask(self, kind: str, count: int) -> list[float]:
        """The client's figures. Raises PeerFailed."""
        client = self._client
        assert client is not None
        assert client.stdin is not None
        with suppress(BrokenPipeError):
            client.stdin.write(json.dumps({"do": kind, "count": count}) + "\n")
            client.stdin.flush()
        figures: list[float] = self._reply()["figures"]
        return figures

    def _reply(self) -> dict[str, Any]:
        assert self._client is not None
        assert self._client.stdout is not None
        line = self._client.stdout.readline()
        reply: dict[str, Any] = json.loads(line) if line else {"error": "the client ended"}
        if "error" in reply:
            raise PeerFailed(f"{reply['error']}\n{self._tail()}")
        return reply

    @contextmanager
    def awake(self) -> Iterator[Self]:
        """Its turn: all its processes run."""
        self._signal(signal.SIGCONT)
        try:
            yield self
        finally:
            self.freeze()

    def freeze(self) -> None:
        """Its turn is over."""
        self._signal(signal.SIGSTOP)

    def cpu(self) -> float:
        """Seconds of CPU that its servers, its workers and its client have used."""
        assert self._client is not None
        return processes.cpu([self._client.pid, *self._workers()])

    def memory(self) -> float:
        """MiB of its servers and workers."""
        return processes.memory(self._workers())

    def end(self) -> None:
        """End all that was started."""
        if self._client is not None:
            self._client.kill()
            self._client.communicate()
        self._signal(signal.SIGCONT)
        for server in reversed(self._servers):
            server.stop()

    def _signal(self, number: signal.Signals) -> None:
        for server in self._servers:
            os.killpg(server.pid, number)

    def _workers(self) -> list[int]:
        return [server.pid for server in self._servers]

    def _tail(self) -> str:
        logs = [self.folder / "client.log", *(server.log for server in self._servers)]
        return "\n".join(
            f"{log.name}: {log.read_text(errors='replace')[-800:].strip()}" for log in logs if log.exists()
        )


@contextmanager
def crew(name: str, environment: Mapping[str, str]) -> Iterator[Crew]:
    """A crew in a folder of its own, ended with the block."""
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder("peer"))
        made = Crew(name, folder, environment)
        stack.callback(made.end)
        yield made
