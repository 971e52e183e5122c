"""Migrations: `flows db upgrade`, and an SQLite store that is older. Alembic is loaded here alone."""

import logging
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy.exc import DBAPIError

from celeryflows.errors import SchemaMismatch, StoreError
from celeryflows.store import mariadb_schema
from celeryflows.store.database import Store
from celeryflows.store.locks import SCHEMA_SPACE
from celeryflows.store.older_workers import SILENCE, check_workers
from celeryflows.store.versions import Upgradable, fits, is_newer, newest_version, schema_version, tell_since

logger = logging.getLogger("celeryflows")
MIGRATIONS = Path(__file__).parent / "migrations"
# Behind an upgrade that waits for a table everybody else waits too: soon it lets them pass, and begins anew.
LOCK_SECONDS, PAUSE, PATIENCE = 2.0, 0.5, 300.0


def upgrade(store: Upgradable, silence: int = SILENCE) -> str:
    """Bring the schema to the newest version, one process at a time; the version. One that is newer and fits this code
    stays. Raises StoreError, also for workers that have beaten within `silence` (microseconds) and need what would be
    taken away."""
    have = schema_version(store)
    if have is not None and is_newer(have):
        if fits(store, have):
            return have
        raise SchemaMismatch(f"The store {store.shown_url()} has schema {have}, made by a newer celeryflows.")
    _insist(store, lambda config: _to_the_newest(store, config, silence))
    return newest_version()


def downgrade(store: Upgradable, revision: str) -> None:
    """Bring the schema back to an older version. Raises StoreError."""
    _insist(store, lambda config: command.downgrade(config, revision))


def _insist(store: Upgradable, step: Callable[[Config], None]) -> None:
    """Again and again while others are in the way."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return _with_lock(store, step)
        except DBAPIError as error:
            in_the_way = error.orig is not None and store.dialect.is_transient(error.orig)
            if not in_the_way or time.monotonic() > until:
                is_away = error.orig is not None and store.dialect.is_outage(error.orig)
                remedy = "Run this as a user that may create tables."
                if in_the_way or is_away:
                    remedy = "End long transactions on it." if in_the_way else "Run this again when that is over."
                raise StoreError(
                    f"The store {store.shown_url()} refused its schema: {str(error.orig).strip().splitlines()[0]}. "
                    f"{remedy}"
                ) from error
            logger.warning("others are at a table; the change of the schema begins anew: %s", error.orig)
        time.sleep(PAUSE)


def _to_the_newest(store: Upgradable, config: Config, silence: int) -> None:
    connection = config.attributes["connection"]
    check_workers(store, connection, silence)
    # First of all: where a migration commits by itself, older code may not start on half of what takes away.
    told = tell_since(connection)
    command.upgrade(config, "head")
    if not told:
        tell_since(connection)


def _with_lock(store: Upgradable, step: Callable[[Config], None]) -> None:
    with store.engine.connect() as connection:
        if store.dialect.name == "sqlite":
            # Two processes that create the file at once: the second finds the schema made.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        elif store.dialect.name == "mariadb":
            mariadb_schema.begin(connection, LOCK_SECONDS)
        else:
            connection.exec_driver_sql("BEGIN")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({SCHEMA_SPACE}, 1)")
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {round(LOCK_SECONDS * 1000)}")
        try:
            step(_config(connection))
        except BaseException:
            # On a full disk SQLite has rolled back by itself, and a link may be gone: the error is the one before.
            with suppress(DBAPIError):
                connection.exec_driver_sql("ROLLBACK")
            raise
        else:
            connection.exec_driver_sql("COMMIT")
        finally:
            if store.dialect.name == "mariadb":
                mariadb_schema.end(connection)


def _config(connection: Any = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


if __name__ == "__main__":
    upgrade(Store(sys.argv[1]))
