"""DBOS: workflows from a queue, in worker processes that poll its tables.

Every function is a step of DBOS, decorated; async ones where DBOS runs them better so (parallel, sleepers)."""

import asyncio
import os
import sqlite3
import threading
import time

import psycopg
from dbos import DBOS, DBOSClient
from sqlalchemy import create_engine

from benchmarks.peers import agent

QUEUE, LIST = "bench", 50
# The default is 1 s. Quicker polls load the database more while a backlog is worked off, see docs/benchmarks.md.
POLLING = float(os.environ.get("BENCH_POLLING", "1.0"))
VERSION = "bench"


@DBOS.step()
def step() -> int:
    """A step that does nothing."""
    return agent.noop()


@DBOS.step()
async def async_step() -> int:
    """The same for asyncio."""
    return agent.noop()


@DBOS.workflow()
def one() -> None:
    """One step that does nothing."""
    step()


@DBOS.workflow()
def ten() -> None:
    """Ten steps that do nothing."""
    for _ in range(10):
        step()


@DBOS.workflow()
async def parallel() -> None:
    """Ten steps at once."""
    await asyncio.gather(*(async_step() for _ in range(10)))


@DBOS.workflow()
def start() -> None:
    """Tells when it began."""
    agent.tell()


@DBOS.workflow()
def wait() -> None:
    """Tells when it began, waits for a message, and tells when it went on."""
    agent.tell()
    DBOS.recv("wake", timeout_seconds=60)
    agent.tell()


@DBOS.workflow()
async def sleep(until: float) -> None:
    """Sleeps until the moment, then tells when it woke."""
    await DBOS.sleep_async(until - time.time())
    agent.tell()


@DBOS.workflow()
async def idle(seconds: float) -> None:
    """Sleeps."""
    agent.tell()
    await DBOS.sleep_async(seconds)


def prepare() -> None:
    """Its tables."""
    launch()
    DBOS.destroy()


def work() -> None:
    """A worker process."""
    launch()
    DBOS.register_queue(QUEUE, polling_interval_sec=POLLING)
    threading.Event().wait()


def launch() -> None:
    """An executor of DBOS, as its documentation starts one."""
    DBOS(
        config={
            "name": "bench",
            "system_database_url": agent.STORE,
            "application_version": VERSION,
            "log_level": "WARNING",
            "run_admin_server": False,
        }
    )
    DBOS.launch()


def options(name: str) -> dict[str, str]:
    """Where a workflow is enqueued."""
    return {"workflow_name": name, "queue_name": QUEUE, "app_version": VERSION}


class Client:
    """Enqueues, in transactions of fifty, and looks into the table of workflows for their end."""

    def __init__(self) -> None:
        self._client = DBOSClient(system_database_url=agent.STORE)
        self._engine = create_engine(agent.STORE)
        self._witness = agent.Witness()
        self._look = self._looker()

    def works(self) -> dict[str, agent.Work]:
        """What can be asked for."""
        return {
            **{kind: lambda count, kind=kind: self._rate(kind, count) for kind in ("one", "ten", "parallel")},
            "start": lambda count: agent.start_latencies(self._witness, count, lambda: self._enqueue("start")),
            "wait": lambda count: agent.resume_latencies(
                self._witness,
                count,
                lambda: self._enqueue("wait").workflow_id,
                lambda run: self._client.send(run, "go", "wake"),
            ),
            "sleep": lambda count: agent.sleep_lateness(
                self._witness, count, lambda moment: self._enqueue("sleep", moment)
            ),
            "idle": self._idle,
        }

    def _enqueue(self, name: str, *arguments: object):
        return self._client.enqueue(options(name), *arguments)

    def _enqueue_many(self, name: str, count: int, *arguments: object) -> None:
        for first in range(0, count, LIST):
            with self._engine.begin() as connection:
                for _ in range(min(LIST, count - first)):
                    self._client.enqueue_in_transaction(connection, options(name), *arguments)

    def _rate(self, kind: str, count: int) -> list[float]:
        return agent.rate(count, lambda count: self._enqueue_many(kind, count), lambda: self._look(kind) == 0)

    def _idle(self, count: int) -> list[float]:
        self._witness.forget()
        began = time.perf_counter()
        self._enqueue_many("idle", count, 3600.0)
        for _ in range(count):
            self._witness.hear()
        return [count / (time.perf_counter() - began)]

    def _looker(self):
        query = "SELECT count(*) FROM {} WHERE status IN ('ENQUEUED', 'PENDING') AND name = {}"
        if agent.STORE.startswith("sqlite"):
            connection = sqlite3.connect(agent.STORE.removeprefix("sqlite:///"), timeout=30)
            return lambda kind: connection.execute(query.format("workflow_status", "?"), (kind,)).fetchone()[0]
        server = psycopg.connect(agent.STORE.replace("+psycopg", ""), autocommit=True)
        return lambda kind: server.execute(query.format("dbos.workflow_status", "%s"), (kind,)).fetchone()[0]


if __name__ == "__main__":
    agent.main(prepare, work, lambda: Client().works())
