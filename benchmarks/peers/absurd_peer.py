"""absurd: tasks of stored procedures in PostgreSQL, and workers that poll for them.

Its schema is the one that its command line tool carries."""

import itertools
import os
import time

import psycopg
from absurd_sdk import Absurd
from absurdctl import BUNDLED_SCHEMA_SQL

from benchmarks.peers import agent

LIST = 50
POLLING = float(os.environ.get("BENCH_POLLING", "0.25"))
BATCH = int(os.environ.get("BENCH_BATCH", "1"))
URL = agent.STORE.replace("+psycopg", "")
OPEN = "SELECT EXISTS (SELECT 1 FROM absurd.t_default WHERE state IN ('pending', 'running', 'sleeping'))"


def one(params, ctx):
    """One step that does nothing."""
    ctx.step("step", agent.noop)


def ten(params, ctx):
    """Ten steps that do nothing."""
    for i in range(10):
        ctx.step(f"step {i}", agent.noop)


def start(params, ctx):
    """Tells when it began."""
    agent.tell()


def wait(params, ctx):
    """Tells when it begins to wait, waits for an event, and tells when it went on."""
    ctx.step("begun", agent.tell)
    ctx.await_event(f"wake {params['number']}")
    agent.tell()


def sleep(params, ctx):
    """Sleeps until the moment, then tells when it woke."""
    ctx.sleep_until("until", params["until"])
    agent.tell()


def idle(params, ctx):
    """Sleeps."""
    ctx.sleep_for("idle", 3600)


def prepare() -> None:
    """Its schema and one queue."""
    with psycopg.connect(URL, autocommit=True) as connection:
        connection.execute(BUNDLED_SCHEMA_SQL)
    Absurd(URL).create_queue("default")


def work() -> None:
    """A worker process: it has one connection, on which one task runs at a time."""
    absurd = Absurd(URL)
    for task in (one, ten, start, wait, sleep, idle):
        absurd.register_task(task.__name__)(task)
    absurd.start_worker(batch_size=BATCH, poll_interval=POLLING)


class Client:
    """Spawns tasks, in transactions of fifty, and looks into their table for the end."""

    def __init__(self) -> None:
        self._connection = psycopg.connect(URL, autocommit=True)
        self._absurd = Absurd(self._connection)
        self._witness = agent.Witness()
        self._numbers = itertools.count()

    def works(self) -> dict[str, agent.Work]:
        """What can be asked for. Steps of one task run one after the other: there is no way to run ten at once."""
        return {
            **{kind: lambda count, kind=kind: self._rate(kind, count) for kind in ("one", "ten")},
            "start": lambda count: agent.start_latencies(self._witness, count, lambda: self._spawn("start")),
            "wait": lambda count: agent.resume_latencies(self._witness, count, self._begin, self._wake),
            "sleep": lambda count: agent.sleep_lateness(
                self._witness, count, lambda moment: self._spawn("sleep", until=moment)
            ),
            "idle": self._idle,
        }

    def _spawn(self, name: str, **params: object) -> None:
        self._absurd.spawn(name, params, queue="default")

    def _spawn_many(self, name: str, count: int) -> None:
        for first in range(0, count, LIST):
            with self._connection.transaction():
                for _ in range(min(LIST, count - first)):
                    self._spawn(name)

    def _rate(self, kind: str, count: int) -> list[float]:
        return agent.rate(count, lambda count: self._spawn_many(kind, count), lambda: not self._ask(OPEN))

    def _begin(self) -> int:
        number = next(self._numbers)
        self._spawn("wait", number=number)
        return number

    def _wake(self, number: object) -> None:
        self._absurd.emit_event(f"wake {number}")

    def _idle(self, count: int) -> list[float]:
        asleep = "SELECT count(*) FROM absurd.t_default WHERE state = 'sleeping'"
        began = time.perf_counter()
        self._spawn_many("idle", count)
        agent.until(lambda: self._ask(asleep) >= count, every=0.05)
        return [count / (time.perf_counter() - began)]

    def _ask(self, query: str) -> int:
        row = self._connection.execute(query).fetchone()
        assert row is not None
        return row[0]


if __name__ == "__main__":
    agent.main(prepare, work, lambda: Client().works())
