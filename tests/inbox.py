"""A webhook on loopback to which Apprise sends, and what it was sent."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest


class Inbox(ThreadingHTTPServer):
    """A webhook that keeps what it is sent; `refuses` so many at first."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.messages: list[dict[str, Any]] = []
        self.refuses = 0

    @property
    def address(self) -> str:
        """Where Apprise sends to."""
        return f"json://127.0.0.1:{self.server_address[1]}/"


class _Handler(BaseHTTPRequestHandler):
    server: Inbox

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        refused = self.server.refuses > 0
        if refused:
            self.server.refuses -= 1
        else:
            self.server.messages.append(json.loads(body))
        self.send_response(500 if refused else 200)
        self.end_headers()

    def log_message(self, *words: object) -> None:
        """Says nothing."""


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    server = Inbox()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
