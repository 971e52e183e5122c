"""Hot statements on PostgreSQL by libpq itself: prepared once for a connection, sent and read without the driver's
cursor, which costs the client more than the statement does."""

import re
import select
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celeryflows.store.executor import Row

_NAMED = re.compile(r"%\((\w+)\)s")
_KEY = "celeryflows prepared"
# PGRES_COMMAND_OK and PGRES_TUPLES_OK.
_DONE = (1, 2)
# The plan's columns changed with the schema, or somebody discarded what was prepared: it is prepared anew.
_STALE = ("0A000", "26000")


def prepared_of(pooled: Any) -> "Prepared | None":
    """The prepared statements of a pooled connection, which go with it; None where the driver's cursor has to do it."""
    found: Prepared | None = pooled.info.get(_KEY)
    if found is None and _is_fit(pooled.dbapi_connection):
        found = pooled.info[_KEY] = Prepared(pooled.dbapi_connection)
    return found


def _is_fit(driver: Any) -> bool:
    """Under gevent and eventlet a call of libpq would hold up everybody else: their `select` is no longer Python's."""
    is_psycopg = hasattr(driver, "pgconn") and driver.prepare_threshold is not None
    return is_psycopg and driver.info.encoding == "utf-8" and select.select.__module__ == "select"


@dataclass(frozen=True, slots=True)
class Statement:
    """One prepared statement: its parameters in their order, and its columns with how each is read."""

    name: bytes
    names: Sequence[str]
    columns: Sequence[str]
    loads: Sequence[Callable[[bytes], Any]]


class Prepared:
    """The statements that one connection of psycopg has prepared. Types are those that PostgreSQL infers: each
    parameter stands where a column or a cast gives it one."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._lock = driver.lock
        self._server = driver.pgconn
        self._known: dict[str, Statement] = {}
        self._count = 0

    @property
    def is_idle(self) -> bool:
        """True outside a transaction, where a statement that was forgotten can be prepared anew: a rollback by the
        driver, as of a transaction of the user's own, discards all that is prepared."""
        idle: bool = self._server.transaction_status == 0
        return idle

    def run(self, text: str, params: Mapping[str, Any]) -> list[Row]:
        """Run one statement of the driver's style and return its rows. Raises the driver's errors."""
        with self._lock:
            result = self._answer(text, params)
            if result.status not in _DONE and _state(result) in _STALE and self.is_idle:
                del self._known[text]
                result = self._answer(text, params)
        if result.status not in _DONE:
            raise _error(result)
        value, loads = result.get_value, self._known[text].loads
        rows: list[Row] = []
        for row in range(result.ntuples):
            cells = [value(row, column) for column in range(len(loads))]
            rows.append(tuple([None if cell is None else load(cell) for load, cell in zip(loads, cells, strict=True)]))
        return rows

    def roll_back(self, command: str) -> None:
        """Roll back past the driver: what is prepared stays, here and in the driver. Raises the driver's errors."""
        with self._lock:
            result = self._server.exec_(command.encode())
        if result.status not in _DONE:
            raise _error(result)

    def _answer(self, text: str, params: Mapping[str, Any]) -> Any:
        statement = self._known.get(text) or self._prepare(text)
        return self._server.exec_prepared(statement.name, [_dump(params[name]) for name in statement.names])

    def columns(self, text: str) -> Sequence[str]:
        """The names of the columns of a statement that has run."""
        return self._known[text].columns

    def _prepare(self, text: str) -> Statement:
        names = tuple(dict.fromkeys(_NAMED.findall(text)))
        numbered = _NAMED.sub(lambda m: f"${names.index(m[1]) + 1}", text).replace("%%", "%")
        self._count += 1
        name = f"celeryflows_{self._count}".encode()
        result = self._server.prepare(name, numbered.encode())
        if result.status in _DONE:
            result = self._server.describe_prepared(name)
        if result.status not in _DONE:
            raise _error(result)
        described = range(result.nfields)
        statement = Statement(
            name,
            names,
            [result.fname(i).decode() for i in described],
            [self._loader(result.ftype(i)) for i in described],
        )
        self._known[text] = statement
        return statement

    def _loader(self, type_id: int) -> Callable[[bytes], Any]:
        from psycopg.pq import Format

        load: Callable[[bytes], Any] = self._driver.adapters.get_loader(type_id, Format.TEXT)(
            type_id, self._driver
        ).load
        return load


def _state(result: Any) -> str:
    from psycopg.pq import DiagnosticField

    return (result.error_field(DiagnosticField.SQLSTATE) or b"").decode()


def _error(result: Any) -> Exception:
    from psycopg import OperationalError
    from psycopg.errors import error_from_result

    if not _state(result):
        return OperationalError(f"the connection is lost: {result.get_error_message()}")
    return error_from_result(result)


def _dump(value: Any) -> bytes | None:
    """As text; libpq would end one at a NUL."""
    if value is None:
        return None
    if isinstance(value, str):
        if "\0" in value:
            from psycopg import DataError

            raise DataError("PostgreSQL text cannot hold NUL (0x00)")
        return value.encode()
    return str(value).encode()
