"""The physical limit: the fenced statement that records a step, by the bare driver, each in a commit of its own.

A unit of n steps is n + 2 such statements, for the claim and the end."""

import itertools
from functools import partial

from benchmarks.peers import agent
from benchmarks.peers.shares import Pool, Shares
from benchmarks.step_cost import bare, runtime_of, statement
from celeryflows.store.database import Store
from celeryflows.store.upgrade import upgrade

STATEMENTS = {"one": 3, "ten": 12}


def inserter() -> Shares:
    """One connection, and a run on which it records steps."""
    runtime = runtime_of(agent.STORE)
    sql, row = statement(runtime)
    execute, numbers = bare(runtime.store), itertools.count()

    def insert(statements: int, count: int) -> None:
        for _ in range(count * statements):
            if not execute(sql, row(next(numbers))):
                raise AssertionError("the fence was closed")

    return {kind: partial(insert, statements) for kind, statements in STATEMENTS.items()}


def works() -> dict[str, agent.Work]:
    """What can be asked for."""
    pool = Pool(inserter)
    return {kind: partial(pool.rate, kind) for kind in STATEMENTS}


def prepare() -> None:
    """The tables of celeryflows."""
    upgrade(Store(agent.STORE))


if __name__ == "__main__":
    agent.main(prepare, lambda: None, works)
