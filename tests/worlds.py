"""What a test with real workers stands on: broker, store, witness, workers, and the app on the test's own side."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from celeryflows.scheduler.figures import BUCKET
from celeryflows.store.database import Store
from celeryflows.store.upgrade import upgrade
from tests.celery.apps.sheet import Sheet
from tests.databases import prepared_database
from tests.mariadb import Mariadb
from tests.servers import Postgres, Redis
from tests.waiting import eventually
from tests.workers import Worker, running_worker, starting_worker

# Recovery in seconds instead of half a minute.
BRISK = {"flows_beat_every": "1s", "flows_dead_after": "4s", "flows_leader_lease": "4s"}


class World:
    """One broker database, one store, one witness file. `settings` are those of its workers and its client app."""

    def __init__(self, broker: str, store: str, folder: Path, **settings: Any) -> None:
        self.broker = broker
        self.settings = {
            "broker_url": broker,
            "result_backend": broker,
            "broker_connection_retry_on_startup": True,
            "flows_store_url": store,
            **settings,
        }
        self.witness = folder / "witness"
        self.store = Store(store)
        self._apps: list[Celery] = []

    @property
    def env(self) -> dict[str, str]:
        """The environment of its workers."""
        return {"APP_SETTINGS": json.dumps(self.settings), "WITNESS": str(self.witness)}

    def worker(
        self, app_module: str, *options: str, env: dict[str, str] | None = None, **settings: Any
    ) -> AbstractContextManager[Worker]:
        """A worker of this world; `settings` and `env` are its own."""
        return running_worker(app_module, *options, env=self._env_of(settings, env))

    def starting(
        self, app_module: str, *options: str, env: dict[str, str] | None = None, **settings: Any
    ) -> AbstractContextManager[Worker]:
        """The same, not waited for: several start at once."""
        return starting_worker(app_module, *options, env=self._env_of(settings, env))

    def _env_of(self, settings: dict[str, Any], env: dict[str, str] | None) -> dict[str, str]:
        return {**self.env, "APP_SETTINGS": json.dumps({**self.settings, **settings}), **(env or {})}

    def app(self, sheet: Sheet, **settings: Any) -> Celery:
        """The sheet's app on the test's side."""
        app = sheet.make({**self.settings, **settings})
        self._apps.append(app)
        return app

    def keep(self, app: Celery) -> Celery:
        """Close this app too at the end."""
        self._apps.append(app)
        return app

    # -- the witness

    def lines(self) -> list[str]:
        """What step bodies told, without their process ids."""
        return [line.rpartition(" ")[0] for line in self._told()]

    def pids(self, words: str) -> list[int]:
        """The processes that told this."""
        return [int(line.rpartition(" ")[2]) for line in self._told() if line.rpartition(" ")[0] == words]

    def told(self, words: str, times: int = 1, within: float = 20.0) -> None:
        """Wait until it was told so often."""
        eventually(lambda: self.lines().count(words) >= times or None, within=within)

    def counts(self) -> Counter[str]:
        """How often each line was told."""
        return Counter(self.lines())

    def open_gate(self, name: str) -> None:
        """Let the steps at this gate go on."""
        Path(f"{self.witness}.{name}").touch()

    def _told(self) -> list[str]:
        return self.witness.read_text().splitlines() if self.witness.exists() else []

    # -- the store and the broker

    def age_messages(self, seconds: float) -> None:
        """As if those that nobody has claimed had been sent that much earlier: no test waits for them to grow old."""
        for units in ("runs", "branches"):
            self.rows(
                f"UPDATE flows_{units} SET sent_at = sent_at - CAST(:us AS bigint) "
                "WHERE status = 'queued' AND sent_at IS NOT NULL RETURNING 1",
                us=int(seconds * 1e6),
            )
        # The broker has been there for longer than they.
        epoch = "UPDATE flows_meta SET value = CAST(CAST(value AS bigint) - :us AS varchar(256)) WHERE key = :key"
        self.rows(f"{epoch} RETURNING key", us=int(seconds * 1e6), key="broker_epoch_at")

    def count_as_quick(self, *flows: str) -> None:
        """As if the leader had counted runs of a millisecond each."""
        with self.store.connection() as connection:
            at = connection.now() // BUCKET * BUCKET
            connection.figures.put(at, {flow: {"completed": 1000, "took": 1_000_000} for flow in flows}, None)

    def rows(self, sql: str, **params: Any) -> list[tuple[Any, ...]]:
        """Run one statement on the store."""
        with self.store.connection() as connection:
            return connection.execute(sql, **params)

    def status(self, run_id: str) -> str | None:
        """Where a run stands, None when it is not there."""
        rows = self.rows("SELECT status FROM flows_runs WHERE id = :id", id=run_id)
        return str(rows[0][0]) if rows else None

    def ends(self, run_id: str, status: str = "completed", within: float = 30.0) -> None:
        """Wait until the run has ended so."""
        eventually(lambda: self.status(run_id) == status, within=within, every=0.05)

    @contextmanager
    def redis(self) -> Iterator[Any]:
        """A client of the broker."""
        with redis.Redis.from_url(self.broker) as client:
            yield client

    def close(self) -> None:
        """Drop all connections of this side."""
        for app in self._apps:
            app.close()
            if hasattr(app, "flows"):
                app.flows.runtime.store.dispose()
        self.store.dispose()


@contextmanager
def made_world(
    redis_server: Redis, database: int, server: Postgres | Mariadb | None, folder: Path, **settings: Any
) -> Iterator[World]:
    """A world on an empty broker database and an empty store: on the server when one is given, else SQLite."""
    redis_server.flush(database)
    name = prepared_database(server) if server is not None else ""
    url = server.url(name) if server is not None else f"sqlite:///{folder / 'store.sqlite3'}"
    world = World(redis_server.url(database), url, folder, **settings)
    try:
        upgrade(world.store)
        yield world
    finally:
        world.close()
        if server is not None:
            server.drop_database(name)


@pytest.fixture(scope="module")
def make_world(
    request: pytest.FixtureRequest, broker_databases: Iterator[int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., World]]:
    """Makes worlds by the kind of their store, "sqlite", "postgres" or "mariadb"; they end with the module."""
    with ExitStack() as stack:

        def make(kind: str = "sqlite", redis: Redis | None = None, **settings: Any) -> World:
            server = request.getfixturevalue(f"{kind}_server") if kind != "sqlite" else None
            broker = redis or request.getfixturevalue("redis_server")
            folder = tmp_path_factory.mktemp("world")
            return stack.enter_context(made_world(broker, next(broker_databases), server, folder, **settings))

        yield make
