"""Prepared stores of each kind: on the real clock, and on one that is turned by hand."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from celeryflows.clock import TurnedClock
from celeryflows.store.database import Store
from celeryflows.store.schema import metadata
from celeryflows.store.upgrade import upgrade
from tests.servers import Postgres

# The store's identity stays.
EMPTY_ALL = ";".join(
    f"DELETE FROM {table}" + (" WHERE key <> 'identity'" if table == "flows_meta" else "") for table in metadata.tables
)


@pytest.fixture(scope="session")
def shared_postgres(postgres_server: Postgres) -> str:
    """The name of a database with the schema, emptied for each test: ten times as fast as a new one."""
    name = postgres_server.create_database()
    made = Store(postgres_server.url(name))
    upgrade(made)
    made.dispose()
    return name


@pytest.fixture
def migrated_postgres(postgres_server: Postgres, shared_postgres: str) -> str:
    """The URL of an empty PostgreSQL store with the schema."""
    with postgres_server.connect(shared_postgres) as connection:
        # What an earlier test left connected would hold rows and locks.
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid()"
        )
        connection.execute(EMPTY_ALL)
    return postgres_server.url(shared_postgres)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the schema, copied for each test."""
    path = tmp_path_factory.mktemp("template") / "store.sqlite3"
    made = Store(f"sqlite:///{path}")
    made.prepare()
    made.dispose()
    return path


@pytest.fixture
def migrated_sqlite(tmp_path: Path, sqlite_template: Path) -> str:
    """The URL of an SQLite store with the schema."""
    return f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'store.sqlite3')}"


@pytest.fixture(params=["sqlite", "postgres"])
def migrated_url(request: pytest.FixtureRequest) -> str:
    """The URL of a store with the schema, of each kind in turn."""
    url: str = request.getfixturevalue(f"migrated_{request.param}")
    return url


@pytest.fixture
def store(migrated_url: str) -> Iterator[Store]:
    """A store on the real clock."""
    made = Store(migrated_url)
    yield made
    made.dispose()


@pytest.fixture
def clock() -> TurnedClock:
    """The clock of `turned`."""
    return TurnedClock()


@pytest.fixture
def turned(migrated_url: str, clock: TurnedClock) -> Iterator[Store]:
    """A store whose time stands still until a test turns it."""
    made = Store(migrated_url, clock=clock)
    yield made
    made.dispose()
