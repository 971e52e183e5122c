"""A webhook on loopback to which Apprise sends, and what it was sent."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.receiving import serving


class Inbox(ThreadingHTTPServer):
    """A webhook that keeps what it is sent, each message with its `path`; `refuses` so many at first, and `refuses_at`
    so many of a path."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.messages: list[dict[str, Any]] = []
        self.refuses = 0
        self.refuses_at: Counter[str] = Counter()

    @property
    def address(self) -> str:
        """Where Apprise sends to."""
        return self.address_of("")

    def address_of(self, path: str) -> str:
        """The same for a path of its own."""
        return f"json://127.0.0.1:{self.server_address[1]}/{path}"

    def at(self, path: str) -> list[str]:
        """The messages that came to a path."""
        return [message["message"] for message in self.messages if message["path"] == f"/{path}"]

    def takes(self, path: str) -> bool:
        """False when this one is refused, and counted."""
        if self.refuses > 0:
            self.refuses -= 1
            return False
        if self.refuses_at[path] > 0:
            self.refuses_at[path] -= 1
            return False
        return True


class _Handler(BaseHTTPRequestHandler):
    server: Inbox

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        taken = self.server.takes(self.path.strip("/"))
        if taken:
            self.server.messages.append({**json.loads(body), "path": self.path.rstrip("/")})
        self.send_response(200 if taken else 500)
        self.end_headers()

    def log_message(self, *words: object) -> None:
        """Says nothing."""


@contextmanager
def running_inbox() -> Iterator[Inbox]:
    """A webhook for the block."""
    with serving(Inbox()) as server:
        yield server


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with running_inbox() as server:
        yield server
