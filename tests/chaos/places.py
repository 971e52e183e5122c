"""Where a store may be: SQLite, PostgreSQL and MariaDB, each with the ways in which it can be hurt."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any, Protocol

import psycopg
import pymysql

from tests.chaos.disks import small_disk
from tests.chaos.proxy import Proxy, running_proxy
from tests.databases import prepared_database
from tests.mariadb import running_mariadb
from tests.servers import running_postgres, temporary_folder

SOCKET = ".s.PGSQL.5432"
RECOVERS_IN = 10


class Place(Protocol):
    """A store's server, or its file. `disk` is a small disk of its own, None where none can be mounted."""

    kind: str
    url: str
    disk: Path | None

    def crash(self) -> None:
        """kill -9."""
        ...

    def start(self) -> None:
        """Start again over what is there; nothing when it runs."""
        ...

    def cut_a_link(self, dice: Random) -> None:
        """Cut one connection of a worker or sender, whatever it is at."""
        ...

    @contextmanager
    def way(self, node: str) -> Iterator[tuple[str, Proxy | None]]:
        """The URL by which a node reaches it, and the proxy on that way; None where there is no network."""
        ...

    def kill_a_process(self, dice: Random) -> None:
        """kill -9 of one process of the server, as when memory runs out."""
        ...

    @contextmanager
    def crowded(self) -> Iterator[None]:
        """Meanwhile there is no connection to be had, and those that were there are cut."""
        ...


class SqlitePlace:
    """A file; it has no server that could die."""

    kind = "sqlite"

    def __init__(self, folder: Path, disk: Path | None) -> None:
        self.disk = disk
        self.url = f"sqlite:///{folder / 'store.sqlite3'}"

    @contextmanager
    def way(self, node: str) -> Iterator[tuple[str, Proxy | None]]:
        yield self.url, None

    def start(self) -> None:
        pass


class ServerPlace:
    """A server of its own."""

    # What its driver raises when no connection is to be had.
    no_connection: type[Exception]

    def __init__(self, server: Any, disk: Path | None) -> None:
        self.server = server
        self.disk = disk
        self.database = prepared_database(server)
        self.url = server.url(self.database)

    @contextmanager
    def crowded(self) -> Iterator[None]:
        taken = [self.server.connect()]
        try:
            # Whoever is cut comes back at once: who is in the way is cut until all places are ours.
            for _ in range(20):
                self.cut_all(taken[0])
                with suppress(self.no_connection):
                    while True:
                        taken.append(self.server.connect())
            yield
        finally:
            for connection in taken:
                connection.close()


class PostgresPlace(ServerPlace):
    """PostgreSQL's."""

    kind = "postgres"
    no_connection = psycopg.OperationalError

    def crash(self) -> None:
        self.server.server.kill()

    def start(self) -> None:
        # It may be up, or recover by itself.
        for _ in range(RECOVERS_IN * 10):
            with suppress(psycopg.OperationalError):
                self.server.connect().close()
                return
            if not (self.server.folder / SOCKET).exists():
                break
            time.sleep(0.1)
        self.server.server.kill()
        self.server.start()

    @contextmanager
    def way(self, node: str) -> Iterator[tuple[str, Proxy | None]]:
        folder = self.server.folder / node
        folder.mkdir()
        with running_proxy(self.server.folder / SOCKET, folder / SOCKET) as proxy:
            yield f"postgresql+psycopg://postgres@/{self.database}?host={folder}", proxy

    def cut_a_link(self, dice: Random) -> None:
        with self.server.connect() as connection:
            if found := self._processes(connection):
                connection.execute("SELECT pg_terminate_backend(%s)", [dice.choice(found)])

    def kill_a_process(self, dice: Random) -> None:
        with self.server.connect() as connection:
            found = self._processes(connection)
        if found:
            with suppress(ProcessLookupError):
                os.kill(dice.choice(found), signal.SIGKILL)

    def _processes(self, connection: psycopg.Connection) -> list[int]:
        look = "SELECT pid FROM pg_stat_activity WHERE application_name = 'celeryflows' ORDER BY pid"
        return [row[0] for row in connection.execute(look).fetchall()]

    def cut_all(self, connection: psycopg.Connection) -> None:
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'celeryflows'"
        connection.execute(cut)


class MariadbPlace(ServerPlace):
    """MariaDB's."""

    kind = "mariadb"
    no_connection = pymysql.err.MySQLError

    def crash(self) -> None:
        self.server.crash()

    def start(self) -> None:
        with suppress(pymysql.err.MySQLError):
            self.server.connect().close()
            return
        self.server.crash()
        self.server.start()

    @contextmanager
    def way(self, node: str) -> Iterator[tuple[str, Proxy | None]]:
        path = self.server.folder / f"{node}.sock"
        with running_proxy(self.server.socket, path) as proxy:
            yield f"mysql://root@localhost/{self.database}?unix_socket={path}", proxy

    def cut_a_link(self, dice: Random) -> None:
        if found := self._sessions():
            with suppress(pymysql.err.OperationalError):
                self.server.run(f"KILL {dice.choice(found)}")

    def cut_all(self, connection: Any) -> None:
        self.server.free(self.database, connection)

    def _sessions(self) -> list[int]:
        rows = self.server.run(
            f"SELECT id FROM information_schema.processlist WHERE db = '{self.database}' ORDER BY id"
        )
        return [row[0] for row in rows]


@contextmanager
def sqlite_place() -> Iterator[SqlitePlace]:
    """An SQLite file, on a small disk where one can be had."""
    with temporary_folder("chaos") as folder, small_disk(folder, 96) as disk:
        yield SqlitePlace(disk or folder, disk)


@contextmanager
def postgres_place() -> Iterator[PostgresPlace]:
    """A PostgreSQL that may be killed. Its log of writes is kept short, for it has a small disk."""
    settings = {"max_connections": "60", "max_wal_size": "64MB", "min_wal_size": "32MB", "wal_keep_size": "0"}
    with (
        temporary_folder("chaos") as folder,
        small_disk(folder, 400) as disk,
        running_postgres(beside=disk, **settings) as server,
    ):
        yield PostgresPlace(server, disk)


@contextmanager
def mariadb_place() -> Iterator[MariadbPlace]:
    """A MariaDB that may be killed."""
    with (
        temporary_folder("chaos") as folder,
        small_disk(folder, 400) as disk,
        running_mariadb(beside=disk, max_connections="60") as server,
    ):
        yield MariadbPlace(server, disk)


PLACES = {"mariadb": mariadb_place, "sqlite": sqlite_place, "postgres": postgres_place}
