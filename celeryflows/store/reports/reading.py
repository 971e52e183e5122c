"""How every report reads: one short look, in a time that is bounded, with the store's own errors."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Executable
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from celeryflows.errors import StoreError, StoreUnavailable
from celeryflows.store.database import Store
from celeryflows.store.mariadb_session import code_of
from celeryflows.store.sealing import payload_columns, shown_rows

# A snapshot that is held for long slows every hand-over of the engine.
LONGEST = "5s"
Read = tuple[list[str], list[tuple[Any, ...]]]


def read(store: Store, query: Executable) -> list[tuple[Any, ...]]:
    """The rows of one query. Raises StoreUnavailable when nothing answers, StoreError for a query that is refused."""
    try:
        with store.guard, store.engine.connect() as connection:
            names, rows = _LOOKS.get(store.dialect.name, _rows)(connection, query)
    except (DBAPIError, PoolTimeout) as error:
        raise _translated(store, error) from error
    return shown_rows(store.sealer, rows, payload_columns(names))


def one(rows: Sequence[tuple[Any, ...]]) -> tuple[Any, ...] | None:
    """The first row, None when there is none."""
    return rows[0] if rows else None


def _rows(connection: Connection, query: Executable) -> Read:
    found = connection.execute(query)
    return list(found.keys()), [tuple(row) for row in found]


def _bounded(connection: Connection, query: Executable) -> Read:
    connection.exec_driver_sql("BEGIN READ ONLY")
    try:
        # Workers of the database's own cost a short look more than they save, and the engine its cores.
        connection.exec_driver_sql(
            f"SELECT set_config('statement_timeout', '{LONGEST}', true), "
            "set_config('max_parallel_workers_per_gather', '0', true)"
        )
        return _rows(connection, query)
    finally:
        if not connection.invalidated:
            connection.exec_driver_sql("ROLLBACK")


def _bounded_on_mariadb(connection: Connection, query: Executable) -> Read:
    connection.exec_driver_sql(f"SET SESSION max_statement_time = {LONGEST.removesuffix('s')}")
    try:
        return _rows(connection, query)
    finally:
        if not connection.invalidated:
            connection.exec_driver_sql("SET SESSION max_statement_time = DEFAULT")


_LOOKS = {"postgresql": _bounded, "mariadb": _bounded_on_mariadb}
# What a server says of a query that took too long.
TOO_LONG = ("57014", 1969)


def _translated(store: Store, error: DBAPIError | PoolTimeout) -> StoreError:
    cause = getattr(error, "orig", None) or error
    text = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
    if getattr(cause, "sqlstate", None) in TOO_LONG or code_of(cause) in TOO_LONG:
        return StoreError(f"The store {store.shown_url()} took longer than {LONGEST} for a report. Ask for less of it.")
    if isinstance(error, OperationalError | PoolTimeout):
        return StoreUnavailable(
            f"The store {store.shown_url()} does not answer ({text}). Is its server up, and flows_store_url right?"
        )
    return StoreError(f"The store {store.shown_url()} refused a report: {text}")
