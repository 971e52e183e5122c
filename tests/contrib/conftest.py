"""Django in the test's own process: set up once, and only tests that ask for it live in it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import django
import pymysql
import pytest
from django.conf import settings
from django.db import connections
from sqlalchemy.engine import make_url

from celeryflows.celery_bridge import surroundings
from celeryflows.contrib.django.atomic import DjangoCallers, DjangoSurroundings
from celeryflows.engine.callers import is_held
from celeryflows.store.database import Store
from celeryflows.store.schema import metadata
from tests.databases import prepared_database
from tests.engine.orders import declare_ship
from tests.engine.world import World
from tests.kinds import KINDS
from tests.mariadb import Mariadb
from tests.servers import Postgres

# Another than DJANGO_SETTINGS_MODULE: with that, Celery would make every later app of this process Django's.
if not settings.configured:
    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "celeryflows.contrib.django"],
        ALLOWED_HOSTS=["testserver"],
        ROOT_URLCONF="tests.contrib.pages",
        USE_TZ=True,
    )
    django.setup()
    surroundings._entered.clear()


@pytest.fixture
def in_django(monkeypatch: pytest.MonkeyPatch) -> None:
    """The surroundings, for one test."""
    monkeypatch.setattr(surroundings, "_entered", [DjangoSurroundings()])


@dataclass
class Project:
    """A project with its database, which is the store's too, and a worker over it."""

    world: World
    connection: Any

    @property
    def flows(self) -> Any:
        """Its Flows."""
        return self.world.flows

    def order(self, number: int) -> None:
        """Write a row of the project's own."""
        with self.connection.cursor() as cursor:
            cursor.execute("INSERT INTO orders (id) VALUES (%s)", [number])

    def orders(self) -> list[int]:
        """Those that are committed, or seen from within."""
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT id FROM orders ORDER BY id")
            return [row[0] for row in cursor.fetchall()]


def add_alias(alias: str, url: str, **more: Any) -> Any:
    """Another database of the project; its connection in this thread."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        given = {"ENGINE": "django.db.backends.sqlite3", "NAME": parsed.database}
    elif parsed.get_backend_name() == "mariadb":
        given = {
            "ENGINE": "django.db.backends.mysql",
            "NAME": parsed.database,
            "USER": parsed.username,
            "HOST": parsed.query["unix_socket"],
        }
    else:
        given = {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": parsed.database,
            "USER": parsed.username,
            "HOST": parsed.query["host"],
        }
    connections.settings[alias] = connections.configure_settings({"default": {}, alias: {**given, **more}})[alias]
    return connections[alias]


def drop_alias(alias: str) -> None:
    """Forget it."""
    connections[alias].close()
    del connections[alias]
    del connections.settings[alias]


@pytest.fixture(scope="module")
def postgres_shop(postgres_server: Postgres) -> Iterator[str]:
    """A database on a server that the tests of a file share, one after the other."""
    name = prepared_database(postgres_server)
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.fixture(scope="module")
def mariadb_shop(mariadb_server: Mariadb) -> Iterator[str]:
    """The same; Django takes PyMySQL for mysqlclient."""
    pymysql.install_as_MySQLdb()
    name = prepared_database(mariadb_server)
    yield mariadb_server.url(name)
    mariadb_server.drop_database(name)


@pytest.fixture(params=KINDS)
def shop_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty store of each kind."""
    if request.param != "sqlite":
        store = Store(request.getfixturevalue(f"{request.param}_shop"))
        with store.begin() as tx:
            for table in metadata.tables:
                tx.execute(f"DELETE FROM {table}" + (" WHERE key = 'flows_version'" if table == "flows_meta" else ""))
    else:
        store = Store(request.getfixturevalue("sqlite_url"))
        store.prepare()
    store.dispose()
    return store.url.render_as_string(hide_password=False)


@pytest.fixture
def project(shop_url: str) -> Iterator[Project]:
    """A project with its store in its own database "shop", on each kind."""
    world = World(Store(shop_url))
    declare_ship(world)
    world.runtime.callers = callers = DjangoCallers("shop")
    world.store.held_here = lambda: is_held(world.store, callers)
    made = Project(world, add_alias("shop", shop_url))
    with made.connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS orders")
        cursor.execute("CREATE TABLE orders (id integer PRIMARY KEY)")
    yield made
    drop_alias("shop")
    world.close()
