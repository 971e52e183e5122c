"""A proxy that passes requests on and loses the first answers: the client cannot know what became of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx


class DeafProxy(ThreadingHTTPServer):
    """`statuses` are those of the answers that the server behind it gave, lost ones too."""

    daemon_threads = True

    def __init__(self, behind: str, lose: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = behind
        self.lose = lose
        self.statuses: list[int] = []

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: DeafProxy

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        passed = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection", "content-length")}
        answer = httpx.post(self.server.behind + self.path, content=body, headers=passed, timeout=30)
        self.server.statuses.append(answer.status_code)
        if len(self.server.statuses) <= self.server.lose:
            self.close_connection = True
            return
        self.send_response(answer.status_code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, *words: object) -> None:
        """Says nothing."""


@contextmanager
def deaf_proxy(behind: str, lose: int = 1) -> Iterator[DeafProxy]:
    """A proxy before this URL."""
    proxy = DeafProxy(behind, lose)
    thread = Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()
