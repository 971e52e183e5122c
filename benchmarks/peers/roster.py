"""Who is measured, on what store, with which settings: the one place that names a peer's packages."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.peers.packages import PYTHON

PROCESSES = 2
DBOS = ("dbos>=3.4,<4", "psycopg[binary]>=3.2")
ABSURD = ("absurd-sdk>=0.5,<0.6", "absurdctl>=0.5,<0.6", "psycopg[binary]>=3.2")


@dataclass(frozen=True, slots=True)
class Peer:
    """One side of the comparison."""

    name: str
    module: str
    store: str
    settings: str
    # Empty for those that run in the project's own environment.
    python: tuple[str, ...] = ()
    node: tuple[str, ...] = ()
    # Worker processes that are started; a Celery worker forks its own.
    workers: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def interpreter(self) -> str:
        """The Python that runs it."""
        return str(PYTHON) if self.python else sys.executable


CELERY = "one worker, prefork -c 2, early ack, prefetch 4 (default); Redis without persistence"
BARE = "one connection in each of two processes; n + 2 fenced statements, each a commit, for n steps"

PEERS = {
    "celery": Peer("Celery alone", "celery_alone", "", CELERY),
    "postgresql": Peer(
        "celeryflows, PostgreSQL", "ours", "postgresql", "the same worker; flows' settings as they are by default"
    ),
    # Both with as many pool processes as commits want, and messages do not.
    "celery-4": Peer(
        "Celery alone, -c 4", "celery_alone", "", "four pool processes", environment={"BENCH_PROCESSES": "4"}
    ),
    "postgresql-4": Peer(
        "celeryflows, PostgreSQL, -c 4", "ours", "postgresql", "four of them", environment={"BENCH_PROCESSES": "4"}
    ),
    "postgresql-8": Peer(
        "celeryflows, PostgreSQL, -c 8",
        "ours",
        "postgresql",
        "eight pool processes: eight commits share an fsync",
        environment={"BENCH_PROCESSES": "8"},
    ),
    "mariadb": Peer("celeryflows, MariaDB", "ours", "mariadb", "the same, every commit flushed (its default)"),
    "sqlite": Peer("celeryflows, SQLite", "ours", "sqlite", "the same; WAL, synchronous NORMAL (its default)"),
    "bare": Peer("the bare driver, PostgreSQL", "bare", "postgresql", BARE, workers=0),
    "bare-sqlite": Peer("the bare driver, SQLite", "bare", "sqlite", BARE, workers=0),
    "dbos": Peer(
        "DBOS, PostgreSQL",
        "dbos_peer",
        "postgresql",
        "a queue polled every 1 s (default), pool of 20 (default), workflows enqueued 50 in a transaction",
        python=DBOS,
        workers=PROCESSES,
    ),
    "dbos-quick": Peer(
        "DBOS, PostgreSQL, quick",
        "dbos_peer",
        "postgresql",
        "the same, polled every 10 ms",
        python=DBOS,
        workers=PROCESSES,
        environment={"BENCH_POLLING": "0.01"},
    ),
    "dbos-direct": Peer(
        "DBOS, PostgreSQL, no queue",
        "dbos_direct",
        "postgresql",
        "two processes that start 16 workflows at once in themselves",
        python=DBOS,
        workers=0,
    ),
    "dbos-sqlite": Peer(
        "DBOS, SQLite",
        "dbos_peer",
        "sqlite",
        "one process, no WAL (its own choice), polled every 10 ms",
        python=DBOS,
        environment={"BENCH_POLLING": "0.01"},
    ),
    "absurd": Peer(
        "absurd",
        "absurd_peer",
        "postgresql",
        "polls every 0.25 s (default) when there was nothing, claims one task at a time (default)",
        python=ABSURD,
        workers=PROCESSES,
    ),
    "absurd-quick": Peer(
        "absurd, quick",
        "absurd_peer",
        "postgresql",
        "polls every 10 ms, claims eight at a time",
        python=ABSURD,
        workers=PROCESSES,
        environment={"BENCH_POLLING": "0.01", "BENCH_BATCH": "8"},
    ),
    "restate": Peer(
        "Restate",
        "restate_peer",
        "restate-server",
        "its server with fsync on (default), hypercorn of two processes, 64 calls in flight",
        python=("restate-sdk>=1.3,<2", "hypercorn>=0.18"),
        node=("@restatedev/restate-server@1.7",),
    ),
}
