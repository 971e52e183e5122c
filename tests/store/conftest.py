"""Prepared stores of each kind: on the real clock, and on one that is turned by hand."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from celeryflows.clock import TurnedClock
from celeryflows.store.database import Store
from celeryflows.store.upgrade import upgrade
from tests.servers import Postgres


@pytest.fixture(scope="session")
def postgres_template(postgres_server: Postgres) -> str:
    """A database with the schema, copied for each test."""
    name = postgres_server.create_database()
    made = Store(postgres_server.url(name))
    upgrade(made)
    made.dispose()
    return name


@pytest.fixture
def migrated_postgres(postgres_server: Postgres, postgres_template: str) -> Iterator[str]:
    """The URL of a PostgreSQL store with the schema."""
    name = postgres_server.create_database(postgres_template)
    try:
        yield postgres_server.url(name)
    finally:
        postgres_server.drop_database(name)


@pytest.fixture
def migrated_sqlite(tmp_path: Path) -> str:
    """The URL of an SQLite store with the schema."""
    url = f"sqlite:///{tmp_path / 'store.sqlite3'}"
    made = Store(url)
    made.prepare()
    made.dispose()
    return url


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
