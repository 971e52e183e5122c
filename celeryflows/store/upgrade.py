"""Migrations: `flows db upgrade`, and an SQLite store that is older. Alembic is loaded here alone."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy.exc import DBAPIError

from celeryflows.errors import StoreError
from celeryflows.store import mariadb_schema
from celeryflows.store.database import Store
from celeryflows.store.locks import SCHEMA_SPACE
from celeryflows.store.versions import Upgradable, newest_version, schema_version

MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade(store: Upgradable) -> str:
    """Bring the schema to the newest version, one process at a time; the version. Raises StoreError."""
    schema_version(store)
    try:
        _with_lock(store, lambda config: command.upgrade(config, "head"))
    except DBAPIError as error:
        raise StoreError(
            f"The store {store.shown_url()} refused its schema: {str(error.orig).strip().splitlines()[0]}. "
            "Run this as a user that may create tables."
        ) from error
    return newest_version()


def downgrade(store: Upgradable, revision: str) -> None:
    """Bring the schema back to an older version."""
    _with_lock(store, lambda config: command.downgrade(config, revision))


def _with_lock(store: Upgradable, step: Callable[[Config], None]) -> None:
    with store.engine.connect() as connection:
        if store.dialect.name == "sqlite":
            # Two processes that create the file at once: the second finds the schema made.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        elif store.dialect.name == "mariadb":
            mariadb_schema.begin(connection)
        else:
            connection.exec_driver_sql("BEGIN")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({SCHEMA_SPACE}, 1)")
        try:
            step(_config(connection))
        except BaseException:
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
