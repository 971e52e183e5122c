"""What the store's verbs stand on: something that runs a statement. A connection is one."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from celeryflows.store.dialect import Dialect
from celeryflows.store.sealing import Sealer

Row = tuple[Any, ...]


class Executor(Protocol):
    """Runs statements; `{now}` and the like are filled in for the database at hand."""

    dialect: Dialect
    sealer: Sealer | None

    def execute(self, sql: str, **params: Any) -> list[Row]:
        """Run one statement and return its rows."""
        ...

    def execute_hot(self, sql: str, **params: Any) -> list[Row]:
        """As `execute`, by the shortest way that the driver has."""
        ...

    def many(self, sql: str, rows: Sequence[Mapping[str, Any]], numbers: frozenset[str] | None = None) -> None:
        """Run one statement for each row of parameters, of which `numbers` are numbers."""
        ...

    def lock(self, sql: str) -> None:
        """Run a statement without parameters or rows."""
        ...

    def back_to(self, savepoint: str) -> None:
        """Undo what was done since, and give back the locks that were taken."""
        ...


class Verbs:
    """The verbs of one subject, over one connection."""

    def __init__(self, connection: Executor) -> None:
        self._connection = connection
        self._execute = connection.execute
        self._execute_hot = connection.execute_hot
        self._many = connection.many
        self._array = connection.dialect.array

    def _insert(self, sql: str, rows: Sequence[Mapping[str, Any]], numbers: frozenset[str]) -> None:
        if len(rows) == 1:
            self._execute(sql, **rows[0])
        else:
            self._many(sql, rows, numbers)
