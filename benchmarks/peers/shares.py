"""Processes of a client that each do their share of the work, for who needs no queue between caller and worker."""

import multiprocessing
import time
from collections.abc import Callable
from typing import Any

from benchmarks.peers import agent

Shares = dict[str, Callable[[int], object]]


class Pool:
    """As many processes as others have workers; `make` is called once in each, and says what can be done there."""

    def __init__(self, make: Callable[[], Shares]) -> None:
        context = multiprocessing.get_context("spawn")
        self._done = context.Queue()
        # One for each: with one for all, the first to end its share could take another's.
        self._orders = [context.Queue() for _ in range(agent.PROCESSES)]
        for orders in self._orders:
            context.Process(target=_take, args=(make, orders, self._done), daemon=True).start()
        self._gather()

    def rate(self, kind: str, count: int) -> list[float]:
        """Units a second, of as many as were asked for at least."""
        share = -(-count // agent.PROCESSES)
        began = time.perf_counter()
        for orders in self._orders:
            orders.put((kind, share))
        self._gather()
        return [share * agent.PROCESSES / (time.perf_counter() - began)]

    def _gather(self) -> None:
        for _ in self._orders:
            if failed := self._done.get(timeout=agent.PATIENCE):
                raise RuntimeError(failed)


def _take(make: Callable[[], Shares], orders: Any, done: Any) -> None:
    shares = make()
    done.put("")
    while True:
        kind, count = orders.get()
        try:
            shares[kind](count)
        except Exception as error:  # told to the one who asked
            done.put(f"{type(error).__name__}: {error}")
        else:
            done.put("")
