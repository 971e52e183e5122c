"""Events over HTTP beside `flows.send`: `python -m benchmarks.event_api [sqlite|postgresql]`.

One gunicorn worker, a key, and events that start a flow; each request is acknowledged after its commit."""

import json
import re
import socket
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from benchmarks.bench import finish, interleaved, load, reached, show, store_of
from benchmarks.table import Bound, Row
from celeryflows import Event, Flows
from tests.dashboard.apps.shop import sheet
from tests.dashboard.served import served
from tests.servers import running_redis

SINGLES, LISTS, OF = 800, 60, 100
CONNECTIONS, ROUNDS = 4, 3
WANTED_RATIO, WANTED_RATE = 0.5, 5_000
NAME, DATA = "order/placed", {"id": 7, "user": "ann@example.com", "lines": [{"sku": "mug", "pieces": 2}]}
# What nobody waits for.
UNHEARD = "order/seen"
KEY = "the-key-of-the-benchmark"
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


def request(url: str, body: bytes) -> bytes:
    """The bytes of one request."""
    head = f"POST /e/{KEY} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def ask(url: str, message: bytes, times: int) -> None:
    """Send one request after the other on one connection; each must be answered by 200."""
    with socket.create_connection((urlsplit(url).hostname or "", urlsplit(url).port or 80)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(times):
            connection.sendall(message)
            answer = _answer(connection)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"refused: {answer!r}")


def _answer(connection: socket.socket) -> bytes:
    answer = b""
    while True:
        piece = connection.recv(65536)
        if not piece:
            raise SystemExit(f"the server closed the connection: {answer!r}")
        answer += piece
        head, _, body = answer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if length is not None and len(body) >= int(length[1]):
            return answer


def over_http(url: str, body: object, requests: int, events: int) -> float:
    """Events a second, over a few connections at once."""
    message = request(url, json.dumps(body).encode())
    began = time.perf_counter()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(lambda _: ask(url, message, requests // CONNECTIONS), range(CONNECTIONS)))
    return requests * events / (time.perf_counter() - began)


def by_send(flows: Flows) -> float:
    """Events a second of one caller in its own process."""
    began = time.perf_counter()
    for _ in range(SINGLES):
        flows.send(Event(NAME, DATA))
    return SINGLES / (time.perf_counter() - began)


def compare(kind: str) -> list[Row]:
    """All sides on one kind of store."""
    with store_of(kind) as store, running_redis() as redis:
        settings = {"broker_url": redis.url(), "flows_store_url": store, "flows_event_keys": [KEY]}
        app = sheet.make(settings)
        with served("tests.dashboard.apps.shop:web", settings) as server:
            event = {"name": NAME, "data": DATA}
            sides: dict[str, Callable[[], float]] = {
                "http": lambda: over_http(server.url, event, SINGLES, 1),
                "send": lambda: by_send(app.flows),
                "lists": lambda: over_http(server.url, [{**event, "name": UNHEARD}] * OF, LISTS, OF),
                "starting": lambda: over_http(server.url, [event] * OF, LISTS, OF),
            }
            found = interleaved(ROUNDS, **sides)
        app.flows.runtime.store.dispose()
        app.close()
    rows = [show(f"single events over HTTP, {kind}", found["http"], found["send"], WANTED_RATIO, "events/s")]
    print(f"lists of {OF}, {kind}")
    for side, what in (("lists", "nobody listens"), ("starting", "each starts a run")):
        print(f"  {what}: {found[side]} events/s, wanted {WANTED_RATE:,}")
        rows.append(reached(f"lists of {OF} over HTTP, {what}, {kind}", found[side], Bound(WANTED_RATE), "events/s"))
    print(load())
    return rows


def measure(kinds: list[str]) -> list[Row]:
    """Print every comparison."""
    return [row for kind in kinds for row in compare(kind)]


if __name__ == "__main__":
    raise SystemExit(finish(measure(sys.argv[1:] or ["sqlite", "postgresql"])))
