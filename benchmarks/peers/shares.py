"""Processes of a client that each do their share of the work, for who needs no queue between caller and worker.

They end with the client: then its end of the pipe is closed."""

import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from benchmarks.peers import agent

Shares = dict[str, Callable[[int], object]]


class Pool:
    """As many processes as others have workers; `make` is called once in each, and says what can be done there."""

    def __init__(self, make: Callable[[], Shares]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        for _ in range(agent.PROCESSES):
            ours, theirs = context.Pipe()
            context.Process(target=_take, args=(make, theirs), daemon=True).start()
            theirs.close()
            self._pipes.append(ours)
        self._gather()

    def rate(self, kind: str, count: int) -> list[float]:
        """Units a second, of as many as were asked for at least."""
        share = -(-count // agent.PROCESSES)
        began = time.perf_counter()
        for pipe in self._pipes:
            pipe.send((kind, share))
        self._gather()
        return [share * agent.PROCESSES / (time.perf_counter() - began)]

    def _gather(self) -> None:
        for pipe in self._pipes:
            if not pipe.poll(agent.PATIENCE):
                raise TimeoutError("a process did not finish in time")
            if failed := pipe.recv():
                raise RuntimeError(failed)


def _take(make: Callable[[], Shares], orders: Connection) -> None:
    shares = make()
    orders.send("")
    while True:
        try:
            kind, count = orders.recv()
        except EOFError:
            # At once: a peer's own threads would keep the process.
            os._exit(0)
        try:
            shares[kind](count)
        except Exception as error:  # told to the one who asked
            orders.send(f"{type(error).__name__}: {error}")
        else:
            orders.send("")
