"""Real servers for every test: one Redis and one PostgreSQL for each xdist worker, a clean database for each test."""

import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import _state

from celeryflows.store.database import Store
from celeryflows.store.schema import metadata
from tests.databases import prepared_database
from tests.kinds import KINDS
from tests.mariadb import CARELESS, Mariadb, running_mariadb
from tests.servers import REDIS_DATABASES, Postgres, Redis, ServerMissing, running_postgres, running_redis

# What tests made beside the store's own tables.
DROP_OTHERS = """DO $$ DECLARE other text; BEGIN
FOR other IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE 'flows%'
AND tablename NOT LIKE 'alembic%' LOOP EXECUTE format('DROP TABLE %I CASCADE', other); END LOOP; END $$"""
# The store's identity stays.
EMPTY_ALL = ";".join(
    f"DELETE FROM {table}" + (" WHERE key <> 'identity'" if table == "flows_meta" else "") for table in metadata.tables
)

LONGEST = ("simulation", "chaos", "acceptance", "dashboard", "celery", "contrib")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--stores=mariadb` for all that runs on MariaDB, and nothing else."""
    parser.addoption("--stores", choices=["mariadb"], help="only what runs on this store, all of it")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not asked for; what takes long begins first, or one process ends long after the others."""
    items.sort(
        key=lambda item: LONGEST.index(item.path.parent.name) if item.path.parent.name in LONGEST else len(LONGEST)
    )
    asked = config.getoption("--stores")
    kept, left = [], []
    for item in items:
        on_mariadb = item.get_closest_marker("mariadb") is not None
        always = item.path.parent.name == "store" or item.get_closest_marker("always") is not None
        wanted = on_mariadb if asked else not on_mariadb or always
        (kept if wanted else left).append(item)
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = kept


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
    """The PostgreSQL of this process; it need not survive its machine. A test that crashes it takes
    `running_postgres()` for itself instead."""
    try:
        with running_postgres(fsync="off", full_page_writes="off") as server:
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


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[Mariadb]:
    """The MariaDB of this process; it need not survive its machine. A test that crashes it takes `running_mariadb()`
    for itself instead."""
    try:
        with running_mariadb(**CARELESS) as server:
            yield server
    except ServerMissing as missing:
        without(missing)


@pytest.fixture
def mariadb_url(mariadb_server: Mariadb) -> Iterator[str]:
    """The URL of an empty MariaDB database, dropped afterwards, whoever is still connected."""
    name = mariadb_server.create_database()
    try:
        yield mariadb_server.url(name)
    finally:
        mariadb_server.drop_database(name)


@pytest.fixture(scope="session")
def shared_mariadb(mariadb_server: Mariadb) -> str:
    """The name of a database with the schema, emptied for each test."""
    return prepared_database(mariadb_server)


@pytest.fixture
def migrated_mariadb(mariadb_server: Mariadb, shared_mariadb: str) -> str:
    """The URL of an empty MariaDB store with the schema."""
    mariadb_server.empty(shared_mariadb)
    return mariadb_server.url(shared_mariadb)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of an SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'store.sqlite3'}"


@pytest.fixture(params=KINDS)
def store_url(request: pytest.FixtureRequest) -> str:
    """An empty store of each kind in turn: the conformance suite stands on it."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(scope="session")
def shared_postgres(postgres_server: Postgres) -> str:
    """The name of a database with the schema, emptied for each test: ten times as fast as a new one."""
    return prepared_database(postgres_server)


@pytest.fixture
def migrated_postgres(postgres_server: Postgres, shared_postgres: str) -> str:
    """The URL of an empty PostgreSQL store with the schema."""
    with postgres_server.connect(shared_postgres) as connection:
        # What an earlier test left connected would hold rows and locks.
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid()"
        )
        connection.execute(DROP_OTHERS)
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


@pytest.fixture(params=KINDS)
def migrated_url(request: pytest.FixtureRequest) -> str:
    """The URL of a store with the schema, of each kind in turn."""
    url: str = request.getfixturevalue(f"migrated_{request.param}")
    return url


def without(missing: ServerMissing) -> None:
    """Skip at home, fail in CI: there a suite that skips its servers proves nothing."""
    if os.environ.get("CI"):
        pytest.fail(str(missing), pytrace=False)
    pytest.skip(str(missing))
