"""A cursor on MariaDB that runs what `mariadb` made of the store's statements, over PyMySQL's or mysqlclient's own."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from celeryflows.errors import StoreError
from celeryflows.store.mariadb import DEFINE, Guarded, Rows, Sought
from celeryflows.store.mariadb_session import is_settled

_PARAMETER = re.compile(r"%\((\w+)\)s")
# Rows of one insert go together up to so many, and so many characters.
MOST_ROWS, MOST_CHARACTERS = 500, 1_000_000
# What begins the transaction of a statement in several, if none is open; it tells whether it did.
_BEGIN = (
    "BEGIN NOT ATOMIC DECLARE own INT DEFAULT @@autocommit AND NOT @@in_transaction; "
    "IF own THEN START TRANSACTION; END IF; SELECT own; END"
)


class Cursor:
    """Runs a statement to its end, and keeps its rows."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor
        self._defined = is_settled(cursor)
        self._found: list[tuple[Any, ...]] = []
        self.description: Any = None

    def execute(self, sql: str, params: Mapping[str, Any] | None = None) -> None:
        """Run one statement."""
        if isinstance(sql, Sought):
            return self._seek(sql, dict(params or {}))
        if isinstance(sql, Guarded) and not self._defined:
            self._run(DEFINE, None)
            self._defined = True
        self._run(sql, params)
        if isinstance(sql, Guarded):
            self._found = [row[:-1] for row in self._found if row[-1]]
        return None

    def executemany(self, sql: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run one statement for each row of parameters; of an insert many rows go at once."""
        if not isinstance(sql, Rows):
            for row in rows:
                self.execute(sql, row)
            return
        piece: list[Mapping[str, Any]] = []
        length = 0
        for row in rows:
            own = sum(len(value) for value in row.values() if isinstance(value, str))
            if piece and (len(piece) == MOST_ROWS or length + own > MOST_CHARACTERS):
                self._insert(sql, piece)
                piece, length = [], 0
            piece.append(row)
            length += own
        if piece:
            self._insert(sql, piece)

    def fetchall(self) -> list[tuple[Any, ...]]:
        """The rows of the last statement."""
        found, self._found = self._found, []
        return found

    def close(self) -> None:
        """Give the driver's cursor back."""
        self._cursor.close()

    def _insert(self, sql: Rows, rows: Sequence[Mapping[str, Any]]) -> None:
        texts: list[str] = []
        params: dict[str, Any] = {}
        for i, row in enumerate(rows):
            texts.append(_PARAMETER.sub(rf"%(\1__{i})s", sql.values))
            params |= {f"{name}__{i}": value for name, value in row.items()}
        self._run(sql.head + ", ".join(texts) + sql.tail, params)

    def _seek(self, sql: Sought, params: dict[str, Any]) -> None:
        self._run(_BEGIN, None)
        own = self._found[0][0]
        try:
            self._seek_within(sql, params)
        except BaseException:
            if own:
                self._run("ROLLBACK", None)
            raise
        if own:
            found, description = self._found, self.description
            self._run("COMMIT", None)
            self._found, self.description = found, description

    def _seek_within(self, sql: Sought, params: dict[str, Any]) -> None:
        self._run(sql.look, params)
        for statement in (sql.again, sql.act, sql.back):
            if statement is None:
                continue
            if statement is not sql.back:
                rows = self._named(sql.keys, params) if self._found or statement is not sql.act else ""
            if not rows:
                self._found = []
                return
            self._run(statement.replace("{rows}", rows), params)
        if sql.back is None and not sql.act.startswith("DELETE"):
            self._found = []

    def _named(self, keys: Sequence[str], params: dict[str, Any]) -> str:
        """A condition for the rows whose keys were found, and its parameters."""
        if len(keys) == 1:
            names = []
            for i, row in enumerate(self._found):
                params[f"found_{i}"] = row[0]
                names.append(f"%(found_{i})s")
            return f"`{keys[0]}` IN ({', '.join(names)})" if names else ""
        conditions = []
        for i, row in enumerate(self._found):
            params |= {f"found_{i}_{j}": value for j, value in enumerate(row)}
            conditions.append(" AND ".join(f"`{key}` = %(found_{i}_{j})s" for j, key in enumerate(keys)))
        return f"({' OR '.join(f'({one})' for one in conditions)})" if conditions else ""

    def _run(self, sql: str, params: Mapping[str, Any] | None) -> None:
        if params is not None:
            params = self._checked(sql, params)
        cursor = self._cursor
        cursor.execute(sql, params)
        self.description = cursor.description
        self._found = list(cursor.fetchall()) if cursor.description is not None else []
        # What follows a block's rows is its end, or the error that it ended with.
        while cursor.nextset():
            pass

    def _checked(self, sql: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """The parameters, arrays as JSON too where the statement asks for them so."""
        length = 0
        more = {}
        for name, value in params.items():
            if isinstance(value, str):
                length += len(value)
            elif isinstance(value, tuple) and f"%({name}_json)s" in sql:
                more[f"{name}_json"] = json.dumps(value)
        if length > MOST_CHARACTERS:
            self._check_packet(sum(len(value.encode()) for value in params.values() if isinstance(value, str)))
        return {**params, **more} if more else params

    def _check_packet(self, size: int) -> None:
        """The server would only drop the connection of who sends more."""
        self._cursor.execute("SELECT @@max_allowed_packet")
        (most,) = self._cursor.fetchone()
        # Quotes and backslashes are doubled on the way, and the statement itself is there too.
        if size * 1.05 + 10_000 > most:
            raise StoreError(
                f"The store takes {most} bytes at once and this has {size}: raise max_allowed_packet of the MariaDB "
                "server, or store less at once."
            )
