"""The physical limit: the fenced statement that records a step, by the bare driver, each in a commit of its own.

A unit of n steps is n + 2 such statements, for the claim and the end; as many processes as others have workers."""

import itertools
import multiprocessing
import os

from benchmarks.peers import agent
from benchmarks.step_cost import bare, runtime_of, statement
from celeryflows.store.database import Store
from celeryflows.store.upgrade import upgrade

AROUND = 2


class Inserter:
    """One connection, and a run on which it records steps."""

    def __init__(self) -> None:
        runtime = runtime_of(agent.STORE)
        self._sql, self._row = statement(runtime)
        self._execute = bare(runtime.store)
        self._numbers = itertools.count()

    def insert(self, count: int) -> None:
        """So many rows, so many commits."""
        for _ in range(count):
            if not self._execute(self._sql, self._row(next(self._numbers))):
                raise AssertionError("the fence was closed")


def inserting(orders: "multiprocessing.Queue[int]", done: "multiprocessing.Queue[int]") -> None:
    """A process of the limit."""
    inserter = Inserter()
    done.put(os.getpid())
    while True:
        count = orders.get()
        inserter.insert(count)
        done.put(count)


class Client:
    """Hands each process its share."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._orders, self._done = context.Queue(), context.Queue()
        for _ in range(agent.PROCESSES):
            context.Process(target=inserting, args=(self._orders, self._done), daemon=True).start()
        for _ in range(agent.PROCESSES):
            self._done.get(timeout=agent.PATIENCE)

    def works(self) -> dict[str, agent.Work]:
        """What can be asked for."""
        return {"one": lambda count: self._rate(count, 1), "ten": lambda count: self._rate(count, 10)}

    def _rate(self, count: int, steps: int) -> list[float]:
        share = -(-count // agent.PROCESSES) * (steps + AROUND)

        def start(count: int) -> None:
            for _ in range(agent.PROCESSES):
                self._orders.put(share)
            for _ in range(agent.PROCESSES):
                self._done.get(timeout=agent.PATIENCE)

        return agent.rate(-(-count // agent.PROCESSES) * agent.PROCESSES, start, lambda: True)


def prepare() -> None:
    """The tables of celeryflows."""
    upgrade(Store(agent.STORE))


if __name__ == "__main__":
    agent.main(prepare, lambda: None, lambda: Client().works())
