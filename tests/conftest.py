"""Real servers for every test: one Redis and one PostgreSQL for each xdist worker, a clean database for each test."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import _state

from tests.servers import REDIS_DATABASES, Postgres, Redis, ServerMissing, running_postgres, running_redis


@pytest.fixture(autouse=True)
def no_task_for_later_apps() -> Iterator[None]:
    """`@app.task` is shared by default: Celery would give a test's tasks to the apps of all tests that follow."""
    before = set(_state._on_app_finalizers)
    yield
    _state._on_app_finalizers.intersection_update(before)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """The Redis of this process. A test that kills it takes `running_redis()` for itself instead."""
    try:
        with running_redis() as server:
            yield server
    except ServerMissing as missing:
        without(missing)


@pytest.fixture(scope="session")
def redis_url(redis_server: Redis) -> str:
    """The URL of its database 0, shared by all tests of this process."""
    return redis_server.url()


@pytest.fixture(scope="session")
def broker_databases() -> Iterator[int]:
    """Database numbers in a circle, so that what a test leaves running meets the next test's messages late or never."""
    return itertools.cycle(range(1, REDIS_DATABASES))


@pytest.fixture
def broker_url(redis_server: Redis, broker_databases: Iterator[int]) -> str:
    """The URL of an empty Redis database."""
    database = next(broker_databases)
    redis_server.flush(database)
    return redis_server.url(database)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """The PostgreSQL of this process. A test that crashes it takes `running_postgres()` for itself instead."""
    try:
        with running_postgres() as server:
            yield server
    except ServerMissing as missing:
        without(missing)


@pytest.fixture
def postgres_url(postgres_server: Postgres) -> Iterator[str]:
    """The URL of an empty PostgreSQL database, dropped afterwards, whoever is still connected."""
    name = postgres_server.create_database()
    try:
        yield postgres_server.url(name)
    finally:
        postgres_server.drop_database(name)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of an SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'store.sqlite3'}"


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest) -> str:
    """An empty store of each kind in turn: the conformance suite stands on it."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


def without(missing: ServerMissing) -> None:
    """Skip at home, fail in CI: there a suite that skips its servers proves nothing."""
    if os.environ.get("CI"):
        pytest.fail(str(missing), pytrace=False)
    pytest.skip(str(missing))
