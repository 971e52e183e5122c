"""The client's side of every peer: it is told on stdin what to do, does it, and answers with figures on stdout.

Standard library alone: it runs in the peers' environment, where celeryflows is not."""

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PROCESSES = int(os.environ.get("BENCH_PROCESSES", "2"))
STORE = os.environ.get("BENCH_STORE", "")
BROKER = os.environ.get("BENCH_BROKER", "")
WITNESS = int(os.environ.get("BENCH_WITNESS", "0"))
# The same worker for Celery alone and for celeryflows.
CELERY_WORKER = ["worker", "--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "WARNING"]
CELERY_WORKER += ["-c", str(PROCESSES)]
# The time that a run has to reach its wait before it is sent what it waits for.
SETTLE, PATIENCE = 0.1, 240.0

Work = Callable[[int], list[float]]


def tell(*_: object) -> None:
    """Called by a handler: the client hears of it, with the time of the call."""
    at = time.time()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.sendto(repr(at).encode(), ("127.0.0.1", WITNESS))


def noop(*_: object) -> int:
    """What every step does."""
    return 1


class Witness:
    """Hears what handlers tell, by datagrams of the loopback interface."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.bind(("127.0.0.1", WITNESS))

    def forget(self) -> None:
        """Drop what was told before."""
        self._socket.setblocking(False)
        while True:
            try:
                self._socket.recv(64)
            except BlockingIOError:
                return

    def hear(self) -> float:
        """The time of the next call of `tell`."""
        self._socket.settimeout(PATIENCE)
        return float(self._socket.recv(64))


def until(done: Callable[[], object], every: float = 0.01) -> None:
    """Wait for a fact. Raises TimeoutError."""
    deadline = time.monotonic() + PATIENCE
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError("the peer did not finish in time")
        time.sleep(every)


def rate(count: int, start: Callable[[int], object], done: Callable[[], object]) -> list[float]:
    """Units a second, from the first start to the last end."""
    began = time.perf_counter()
    start(count)
    until(done)
    return [count / (time.perf_counter() - began)]


def start_latencies(witness: Witness, count: int, start: Callable[[], object]) -> list[float]:
    """Milliseconds from each call to the handler's first line, one at a time."""
    return [_until_told(witness, start) for _ in range(count)]


def resume_latencies(
    witness: Witness, count: int, begin: Callable[[], object], wake: Callable[[object], object]
) -> list[float]:
    """Milliseconds from what a waiting run waits for to its next line, one at a time."""
    found = []
    for _ in range(count):
        run = begin()
        witness.hear()
        time.sleep(SETTLE)
        found.append(_until_told(witness, lambda run=run: wake(run)))
    return found


def sleep_lateness(witness: Witness, count: int, begin: Callable[[float], object]) -> list[float]:
    """Milliseconds behind their time at which sleepers wake, twenty a second, when nothing else is to do."""
    witness.forget()
    first = time.time() + 2.0
    moments = [first + i / 20 for i in range(count)]
    for moment in moments:
        begin(moment)
    return [(witness.hear() - moment) * 1000 for moment in moments]


def main(prepare: Callable[[], object], work: Callable[[], object], works: Callable[[], dict[str, Work]]) -> None:
    """A peer's module as a program: `prepare` makes its tables, `work` is a worker, `ask` answers orders."""
    match sys.argv[1]:
        case "prepare":
            prepare()
        case "work":
            work()
        case _:
            with _stdout_of_its_own() as answer:
                serve(works(), answer)


def _until_told(witness: Witness, act: Callable[[], object]) -> float:
    witness.forget()
    at = time.time()
    act()
    return (witness.hear() - at) * 1000


def serve(works: dict[str, Work], answer: Callable[[str], object]) -> None:
    """Answer one line of JSON with another, until stdin ends: {"do": kind, "count": n} -> {"figures": [...]}.

    The first line says which kinds of work there are."""
    answer(json.dumps({"kinds": list(works)}) + "\n")
    for line in sys.stdin:
        order = json.loads(line)
        try:
            reply = {"figures": works[order["do"]](order["count"])}
        except Exception as error:  # whatever a peer raises is shown in the table
            reply = {"error": f"{type(error).__name__}: {error}"}
        answer(json.dumps(reply) + "\n")


@contextmanager
def _stdout_of_its_own() -> Iterator[Callable[[str], object]]:
    """What libraries print goes to stderr, so that answers stand alone."""
    with os.fdopen(os.dup(1), "w", buffering=1) as out:
        os.dup2(2, 1)
        yield out.write
