"""An example on the test kit: the commands of its docstring typed, its clock turned, its prints read."""

import json
import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType
from typing import Any, cast

import pytest

from celeryflows import RunHandle
from celeryflows.testing import FlowsTester
from tests.acceptance.terminal import Terminal


class Play:
    """One example at work."""

    def __init__(self, example: ModuleType, tester: FlowsTester, printed: pytest.CaptureFixture[str]) -> None:
        self.example = example
        self.tester = tester
        self._terminal = Terminal(example.app)
        self._printed = printed

    def type(self, words: str) -> str:
        """Type the one command of the docstring that holds these words, and let all that follows happen; its output."""
        [line] = [line for line in commands_of(self.example) if words in line]
        done = self._terminal(*shlex.split(line)[4:])
        assert done.exit_code == 0, done.output
        self.tester.advance("0s")
        return done.stdout

    def run(self, flow: str) -> RunHandle:
        """The newest run of a flow."""
        return self.tester.runs(flow)[-1]

    def printed(self) -> list[str]:
        """The lines that the steps printed since the last look."""
        return self._printed.readouterr().out.splitlines()


def commands_of(example: ModuleType) -> list[str]:
    """The lines of its docstring that ask the flows command to do something."""
    lines = (example.__doc__ or "").splitlines()
    return [line for line in lines if line.startswith(f"celery -A {example.__name__} flows ")]


class Listener:
    """A web server that keeps what is posted to it, and answers by `answer(path, body)`."""

    def __init__(self) -> None:
        self.posted: list[Any] = []
        self.answer: Any = lambda path, body: {}

    def take(self, path: str, body: bytes) -> bytes:
        """The bytes of an answer."""
        value = json.loads(body) if body else None
        if body:
            self.posted.append(value)
        found = self.answer(path, value)
        return found if isinstance(found, bytes) else json.dumps(found).encode()


class _Request(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            answer = cast(Any, self.server).listener.take(self.path, body)
        except LookupError:
            self.send_response(500)
            answer = b"{}"
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def do_GET(self) -> None:
        self.headers["Content-Length"] = "0"
        self.do_POST()

    def log_message(self, *_: Any) -> None:
        """Tests print nothing."""


@contextmanager
def listening() -> Iterator[tuple[str, Listener]]:
    """A listener and its URL, for a block."""
    listener = Listener()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Request)
    cast(Any, server).listener = listener
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", listener
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
