"""A real MariaDB for tests: the one that is installed, on a data folder of its own. It ends with its process.

`with running_mariadb() as mariadb:`; it can be killed and started anew."""

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

import pymysql

from tests.servers import Server, ServerDied, ServerMissing, temporary_folder

# A server that need not survive its machine.
CARELESS = {"innodb_flush_log_at_trx_commit": "0", "innodb_doublewrite": "0"}


class Mariadb:
    """A running MariaDB, reached by a socket in its own folder; commits are flushed unless `more` settings say
    otherwise."""

    def __init__(self, folder: Path, **more: str) -> None:
        self.folder = folder
        self.socket = folder / "s.sock"
        settings = {
            "datadir": folder / "data",
            "socket": self.socket,
            "skip_networking": "on",
            "skip_log_bin": "on",
            "skip_name_resolve": "on",
            "performance_schema": "off",
            "max_connections": 200,
            "innodb_buffer_pool_size": "64M",
            "innodb_log_file_size": "32M",
            "key_buffer_size": "1M",
            "aria_pagecache_buffer_size": "1M",
            # What a database has that nobody thought of.
            "character_set_server": "latin1",
            "pid_file": folder / "pid",
            **more,
        }
        words = [f"--{key}={value}" for key, value in settings.items()]
        command = [mariadb_binary("mariadbd"), "--no-defaults", *words, *_user()]
        self.server = Server("mariadb", folder, command, [SIGTERM, SIGKILL])

    def url(self, database: str = "mysql") -> str:
        """The SQLAlchemy URL of one database."""
        return f"mysql://root@localhost/{database}?unix_socket={self.socket}"

    def connect(self, database: str = "mysql") -> Any:
        """A connection of the driver, in autocommit."""
        return pymysql.connect(unix_socket=str(self.socket), user="root", database=database, autocommit=True)

    def run(self, *statements: str, database: str = "mysql") -> list[tuple[Any, ...]]:
        """Run statements; the rows of the last."""
        connection = self.connect(database)
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def start(self) -> None:
        """Start over the data that is there."""
        self.server.start(self._answers)

    def crash(self) -> None:
        """End at once: a start recovers what was written to the log."""
        self.server.kill()

    def create_database(self) -> str:
        """Make an empty database, and return its name."""
        name = f"test_{uuid.uuid4().hex[:16]}"
        self.run(f"CREATE DATABASE {name}")
        return name

    def empty(self, name: str) -> None:
        """Delete all that a test left in a database with the schema, whoever is still connected."""
        self.free(name)
        tables = [row[0] for row in self.run("SHOW TABLES", database=name)]
        ours = [table for table in tables if table.startswith("flows_") and table != "flows_schema"]
        self.run(
            "SET foreign_key_checks = 0",
            *(f"DROP TABLE {table}" for table in tables if not table.startswith("flows_")),
            *(f"DELETE FROM {table}" for table in ours if table != "flows_meta"),
            "DELETE FROM flows_meta WHERE `key` <> 'identity'",
            database=name,
        )

    def drop_database(self, name: str) -> None:
        """Drop the database, whoever is still connected."""
        self.free(name)
        self.run(f"DROP DATABASE IF EXISTS {name}")

    def free(self, name: str, by: Any = None) -> None:
        """End all connections to the database: they would hold rows and locks. `by` this connection, which has one
        when nobody else can."""
        connection = by or self.connect()
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT id FROM information_schema.processlist WHERE db = %s", [name])
                for (number,) in cursor.fetchall():
                    with suppress(pymysql.err.OperationalError):
                        cursor.execute(f"KILL {number}")
        finally:
            if by is None:
                connection.close()

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except pymysql.err.OperationalError:
            return False
        return True


@contextmanager
def running_mariadb(beside: Path | None = None, **settings: str) -> Iterator[Mariadb]:
    """A MariaDB of this block alone, empty, on the disk `beside` when one is given, with these settings. Raises
    ServerMissing."""
    install = mariadb_binary("mariadb-install-db")
    with temporary_folder("mariadb") as folder:
        options = ["--auth-root-authentication-method=normal", "--skip-test-db", *_user()]
        sizes = ["--innodb-log-file-size=8M", "--innodb-buffer-pool-size=16M"]
        data = (beside or folder) / "data"
        done = subprocess.run(
            [install, "--no-defaults", f"--datadir={data}", *options, *sizes],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise ServerDied(f"mariadb-install-db failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        server = Mariadb(folder, datadir=str(data), **settings)
        try:
            server.start()
            yield server
        finally:
            server.server.stop()


def mariadb_binary(name: str) -> str:
    """The path of a binary of MariaDB: on PATH, or where Debian keeps servers."""
    for folder in (None, "/usr/sbin:/usr/local/sbin"):
        if found := shutil.which(name, path=folder):
            return found
    raise ServerMissing("No MariaDB here. Install it: apt-get install mariadb-server")


def _user() -> list[str]:
    return ["--user=root"] if os.geteuid() == 0 else []
