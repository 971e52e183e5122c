"""The schema's version: an SQLite store is created by itself, a server's store by `flows db upgrade`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from celeryflows.errors import SchemaMismatch, StoreError, StoreUnavailable
from celeryflows.store.dialect import Dialect
from celeryflows.store.locks import SCHEMA_SPACE

MIGRATIONS = Path(__file__).parent / "migrations"


class Upgradable(Protocol):
    """What an upgrade needs of the store."""

    dialect: Dialect

    @property
    def engine(self) -> Engine: ...
    def shown_url(self) -> str: ...


def prepare(store: Upgradable) -> None:
    """Create an SQLite store that is missing or older; check the schema of a server's. Raises SchemaMismatch."""
    have, want = schema_version(store), newest_version()
    if have == want:
        return
    if have is not None and have not in known_versions():
        raise SchemaMismatch(
            f"The store {store.shown_url()} has schema {have}, made by a newer celeryflows; this one knows {want}. "
            "Update celeryflows here."
        )
    if store.dialect.name != "sqlite":
        raise SchemaMismatch(
            f"The store {store.shown_url()} has {'no schema yet' if have is None else 'the older schema ' + have}; "
            f"this celeryflows wants {want}. Run: celery -A <app> flows db upgrade"
        )
    upgrade(store)


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


def schema_version(store: Upgradable) -> str | None:
    """The store's schema version, None for an empty database. Raises StoreUnavailable."""
    try:
        with store.engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"version_table": "flows_schema"})
            return context.get_current_revision()
    except DBAPIError as error:
        raise StoreUnavailable(
            f"The store {store.shown_url()} does not answer ({str(error.orig).strip().splitlines()[0]}). "
            "Is its server up, and flows_store_url right?"
        ) from error


def newest_version() -> str:
    """The version that this code wants."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def known_versions() -> set[str]:
    """Every version up to this code's."""
    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def _with_lock(store: Upgradable, step: Callable[[Config], None]) -> None:
    with store.engine.connect() as connection:
        if store.dialect.name == "sqlite":
            # Two processes that create the file at once: the second finds the schema made.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.exec_driver_sql("BEGIN")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({SCHEMA_SPACE}, 1)")
        try:
            step(_config(connection))
        except BaseException:
            connection.exec_driver_sql("ROLLBACK")
            raise
        connection.exec_driver_sql("COMMIT")


def _config(connection: Any = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config
