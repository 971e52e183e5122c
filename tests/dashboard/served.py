"""The HTTP doors as they are served: a gunicorn of its own on a free port of loopback, with its app's settings."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from signal import SIGKILL, SIGTERM
from typing import Any

import httpx

from tests.servers import Server, free_port, temporary_folder
from tests.workers import ROOT


class Served:
    """A running server."""

    def __init__(self, url: str, server: Server) -> None:
        self.url = url
        self.server = server

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self.server.kill()

    @property
    def log(self) -> str:
        """All that it has written."""
        return self.server.log.read_text(errors="replace")


@contextmanager
def served(
    wsgi: str, settings: dict[str, Any], *, host: str = "127.0.0.1", workers: int = 1, threads: int = 4
) -> Iterator[Served]:
    """`wsgi` is `module:app`; `settings` are those of its Celery app. Raises ServerDied."""
    with temporary_folder("web") as folder:
        port = free_port()
        options = ["--bind", f"{host}:{port}", "--workers", str(workers), "--threads", str(threads)]
        options += ["--chdir", str(ROOT), "--env", f"APP_SETTINGS={json.dumps(settings)}", "--no-control-socket"]
        command = [sys.executable, "-m", "gunicorn", *options, "--worker-tmp-dir", str(folder), wsgi]
        server = Server("gunicorn", folder, command, [SIGTERM, SIGKILL])
        url = f"http://127.0.0.1:{port}"
        try:
            server.start(lambda: _answers(url))
            yield Served(url, server)
        finally:
            server.stop()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5.0).status_code < 500
    except httpx.TransportError:
        return False
