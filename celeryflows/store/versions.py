"""The schema's version: an SQLite store is created by itself, a server's store by `flows db upgrade`."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any, Protocol

from sqlalchemy import Column, Engine, MetaData, String, Table, insert, inspect, select, update
from sqlalchemy.exc import DBAPIError

from celeryflows.clock import Clock
from celeryflows.errors import SchemaMismatch, StoreUnavailable
from celeryflows.ids import new_id
from celeryflows.store.dialect import Dialect
from celeryflows.store.schema import SINCE, VERSIONS, meta, metadata

# Alembic's own table, by a name of ours.
versions = Table("flows_schema", MetaData(), Column("version_num", String(32), primary_key=True))
# The fact that tells older code whether it may work on a schema that it does not know.
_SINCE = "schema_since"


class Upgradable(Protocol):
    """What an upgrade needs of the store."""

    dialect: Dialect
    clock: Clock
    held_here: Callable[[], bool] | None

    @property
    def engine(self) -> Engine: ...
    def shown_url(self) -> str: ...


def prepare(store: Upgradable) -> None:
    """Create an SQLite store that is missing or older; check the schema of a server's. Raises SchemaMismatch."""
    have, want = schema_version(store), newest_version()
    if fits(store, have):
        return
    if is_newer(have):
        raise SchemaMismatch(
            f"The store {store.shown_url()} has schema {have}, made by a newer celeryflows; this one knows {want}. "
            "Update celeryflows here."
        )
    if store.dialect.name != "sqlite":
        raise SchemaMismatch(
            f"The store {store.shown_url()} has {'no schema yet' if have is None else 'the older schema ' + have}; "
            f"this celeryflows wants {want}. Run: celery -A <app> flows db upgrade"
        )
    if store.held_here is not None and store.held_here():
        raise SchemaMismatch(
            f"The store {store.shown_url()} has {'no schema yet' if have is None else 'the older schema ' + have}, and "
            "cannot be changed inside the transaction that is open here. Run: celery -A <app> flows db upgrade"
        )
    if have is None:
        _create(store)
    else:
        _upgrade_apart(store)


def schema_version(store: Upgradable) -> str | None:
    """The store's schema version, None for an empty database. Raises StoreUnavailable."""
    try:
        with store.engine.connect() as connection:
            return version_in(connection)
    except DBAPIError as error:
        raise StoreUnavailable(
            f"The store {store.shown_url()} does not answer ({str(error.orig).strip().splitlines()[0]}). "
            "Is its server up, and flows_store_url right?"
        ) from error


def is_newer(version: str | None) -> bool:
    """True for a version that this code does not know."""
    return version is not None and version not in known_versions()


def fits(store: Upgradable, version: str | None) -> bool:
    """This code works on a store of this version: its own, or a newer one that took nothing away that it needs."""
    if not is_newer(version):
        return version == newest_version()
    with store.engine.connect() as connection:
        return told_since(connection) in known_versions()


def told_since(connection: Any) -> str | None:
    """Since which version code works on this schema, as the schema tells."""
    told: str | None = connection.scalar(select(meta.c.value).where(meta.c.key == _SINCE))
    return told


def tell_since(connection: Any) -> bool:
    """Tell older code whether it may work on this schema; False when there is no table to tell it in yet."""
    if not inspect(connection).has_table(meta.name):
        return False
    told = told_since(connection)
    if told is None:
        connection.execute(insert(meta).values(key=_SINCE, value=SINCE))
    elif told != SINCE:
        connection.execute(update(meta).where(meta.c.key == _SINCE).values(value=SINCE))
    return True


def newest_version() -> str:
    """The version that this code wants."""
    return VERSIONS[-1]


def since_version() -> str:
    """The oldest version whose code works on the newest."""
    return SINCE


def is_older(version: str, than: str) -> bool:
    """A version that this code does not know is newer."""
    return version in VERSIONS and VERSIONS.index(version) < VERSIONS.index(than)


def known_versions() -> frozenset[str]:
    """Every version up to this code's."""
    return frozenset(VERSIONS)


def version_in(connection: Any) -> str | None:
    """The version of the connection's database."""
    if not inspect(connection).has_table(versions.name):
        return None
    found: str | None = connection.scalar(select(versions.c.version_num))
    return found


def _upgrade_apart(store: Upgradable) -> None:
    """In a process of its own: Alembic costs a second of each start, and hardly any has something to upgrade."""
    url = store.engine.url.render_as_string(hide_password=False)
    ended = subprocess.run([sys.executable, "-m", "celeryflows.store.upgrade", url], capture_output=True, text=True)
    if ended.returncode:
        why = (ended.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise SchemaMismatch(f"The store {store.shown_url()} could not be brought to {newest_version()}: {why}")


def _create(store: Upgradable) -> None:
    """All tables at once as they are declared, and the store's identity: what the migrations would come to."""
    with store.engine.connect() as connection:
        # Two processes that create the file at once: the second finds the schema made.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            if version_in(connection) is None:
                metadata.create_all(connection)
                connection.execute(insert(meta).values(key="identity", value=new_id()))
                tell_since(connection)
                versions.create(connection, checkfirst=True)
                connection.execute(insert(versions).values(version_num=newest_version()))
        except BaseException:
            connection.exec_driver_sql("ROLLBACK")
            raise
        connection.exec_driver_sql("COMMIT")
