"""What differs between databases, written once: clock, locks, arrays, and which errors may be tried again."""

import json
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from celeryflows.store import mariadb, mariadb_cursor, mariadb_schema, mariadb_session

_PARAMETER = re.compile(r"(?<![:\w]):([a-z_][a-z0-9_]*)")
_VALUES = re.compile(r"(.*)VALUES \((.*)\)\s+(ON CONFLICT.*)", re.DOTALL)
# An operator makes room, or gives the file back.
NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
_BRACES = re.compile(r"\{(\w+)(?::(\w+))?\}")


EVENT_COLUMNS = ("id", "ext_id", "name", "data", "ts", "v")
# SQLite's RETURNING cannot name a joined table; there each look-up costs a microsecond, on a server a share of a claim.
_SUBSELECT = "(SELECT {0} FROM flows_events e WHERE e.id = flows_runs.event_id) AS {0}"

# clock_timestamp, for now() is the transaction's start, before any lock was waited for.
_SERVER_NOW = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS bigint)"
_BOUND_NOW = "CAST(:now AS bigint)"
# NOW() is the statement's start, before any lock was waited for; SYSDATE() alone follows the session's time zone.
_MARIADB_BEGUN = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"
_MARIADB_NOW = f"({_MARIADB_BEGUN} + TIMESTAMPDIFF(MICROSECOND, NOW(6), SYSDATE(6)))"

_LEAVING = "u.ended_at IS NOT NULL AND (u.n1 IS NOT NULL OR u.n2 IS NOT NULL OR u.held_at IS NOT NULL)"
# What partial indexes are for, by their own conditions.
_PARTIAL = {
    "unrouted": "(arrived_at IS NULL OR piece IS NOT NULL) AND stored_at >= 0 AND stored_at",
    "by_unrouted": "stored_at",
    "odd": "ended_at IS NOT NULL AND (length(id) <> 26 OR id >= '02')",
    "odd_ended_at": "ended_at",
    "leaving": _LEAVING,
    "leaving_branch": _LEAVING,
}
# For a PostgreSQL without statistics so many runs have ended and hold something that it would read them all; bounds,
# whatever they are, make it believe that few are meant. No text is past all others in every encoding.
_FEW_LEAVING = {
    "leaving": f"{_LEAVING} AND u.id >= '' AND u.id <= (SELECT max(id) FROM flows_runs)",
    "leaving_branch": f"{_LEAVING} AND u.run_id >= '' AND u.run_id <= (SELECT max(run_id) FROM flows_branches)",
}

# From line to line by the primary key: the walk costs as much as there are lines, not as they are long.
_LINES = """WITH RECURSIVE walk AS (
  SELECT (SELECT min(gate) FROM flows_queue) AS gate
  UNION ALL
  SELECT (SELECT min(q.gate) FROM flows_queue q WHERE q.gate > walk.gate) FROM walk WHERE walk.gate IS NOT NULL)
SELECT gate FROM walk WHERE gate IS NOT NULL"""

# What a statement's {word} means on each database; {word:name} stands for a test against the parameter :name.
WORDS = {
    "postgresql": {
        "now": _SERVER_NOW,
        "share": "FOR SHARE",
        "lock": "FOR UPDATE",
        "lock_what_is_free": "FOR UPDATE SKIP LOCKED",
        "materialized": "MATERIALIZED",
        "in_texts": "= ANY(CAST(:of AS text[]))",
        "in_numbers": "= ANY(CAST(:of AS bigint[]))",
        "each_text": "unnest(CAST(:of AS text[])) AS each(value)",
        "position": "strpos",
        "greatest": "greatest",
        "value_bytes": "octet_length(o.value)",
        # What began and ended at one microsecond stands in the order of its writing, where the database knows it.
        **_PARTIAL,
        **_FEW_LEAVING,
        "lines": _LINES,
        "written": "s.key",
        "with_trigger": "FROM flows_events e",
        "its_trigger": "AND e.id = flows_runs.event_id",
        "trigger": ", ".join(f"e.{column}" for column in EVENT_COLUMNS),
    },
    "sqlite": {
        "now": _BOUND_NOW,
        "share": "",
        "lock": "",
        "lock_what_is_free": "",
        "materialized": "",
        "in_texts": "IN (SELECT value FROM json_each(:of))",
        "in_numbers": "IN (SELECT value FROM json_each(:of))",
        "each_text": "json_each(:of) AS each",
        "position": "instr",
        "greatest": "max",
        "value_bytes": "length(CAST(o.value AS BLOB))",
        **_PARTIAL,
        "lines": _LINES,
        "written": "s.rowid",
        "with_trigger": "",
        "its_trigger": "",
        "trigger": ", ".join(_SUBSELECT.format(column) for column in EVENT_COLUMNS),
    },
    "mariadb": {
        "now": _MARIADB_NOW,
        "share": "LOCK IN SHARE MODE",
        "lock": "FOR UPDATE",
        "lock_what_is_free": "FOR UPDATE SKIP LOCKED",
        "materialized": "",
        "in_texts": "IN :of",
        "in_numbers": "IN :of",
        "each_text": "JSON_TABLE(:of_json, '$[*]' COLUMNS (value VARCHAR(64) PATH '$')) AS each",
        "position": "instr",
        "greatest": "greatest",
        "value_bytes": "octet_length(o.value)",
        **mariadb_schema.PARTIAL,
        # It goes from line to line by itself, and not by such a walk.
        "lines": "SELECT DISTINCT gate FROM flows_queue",
        "written": "s.key",
        "with_trigger": "",
        "its_trigger": "",
        "trigger": ", ".join(_SUBSELECT.format(column) for column in EVENT_COLUMNS),
    },
}


@dataclass(frozen=True, slots=True)
class Dialect:
    """One database's words. `turned` stores take the time as parameter `:now` in every statement."""

    name: str
    turned: bool

    def compile(self, sql: str) -> str:
        """Fill the {words} in and put the driver's parameter style: done once for a statement."""
        filled = _BRACES.sub(lambda m: self._word(m[1], m[2]), sql)
        if self.name == "sqlite":
            return filled
        text = _PARAMETER.sub(r"%(\1)s", filled.replace("%", "%%"))
        return mariadb.translated(text) if self.name == "mariadb" else text

    def word(self, word: str) -> str:
        """What the word stands for, in a text of a report."""
        return self._word(word, None)

    def _word(self, word: str, of: str | None) -> str:
        if word == "now" and self.turned:
            return _BOUND_NOW
        if word == "by_now":
            # What is due is read along an index, up to a moment: no database looks one up by a clock that moves on.
            now = self._word("now", "")
            if self.binds_now:
                return now
            return _MARIADB_BEGUN if self.name == "mariadb" else f"(SELECT {now})"
        return WORDS[self.name][word].replace(":of", f":{of}")

    @property
    def binds_now(self) -> bool:
        """True when `:now` is a parameter of the statements."""
        return self.turned or self.name == "sqlite"

    def array(self, values: Sequence[Any]) -> Any:
        """A list as the parameter of {in_texts} and {in_numbers}."""
        if self.name == "postgresql":
            return _array_text(values)
        if self.name == "mariadb":
            return tuple(values) or (None,)
        return json.dumps(list(values))

    def has_rows(self, cursor: Any) -> bool:
        """True when the statement answers with rows; psycopg's `description` would build an object for each column."""
        if self.name == "postgresql":
            result = cursor.pgresult
            return result is not None and result.nfields > 0
        return cursor.description is not None

    def cursor(self, cursor: Any) -> Any:
        """The driver's cursor, or one over it that runs what `compile` gives."""
        return mariadb_cursor.Cursor(cursor) if self.name == "mariadb" else cursor

    @property
    def takes_arrays(self) -> bool:
        """True when many rows may go as one array for each column."""
        return self.name == "postgresql"

    @property
    def begin(self) -> str:
        """How a transaction that writes begins; SQLite takes its write lock before the first read."""
        return {"sqlite": "BEGIN IMMEDIATE", "mariadb": "START TRANSACTION"}.get(self.name, "BEGIN")

    def command(self, cursor: Any, sql: str) -> None:
        """Run statements without parameters, several in one round trip; a prepared one would be one alone."""
        if self.name == "postgresql":
            cursor.execute(sql, prepare=False)
        elif self.name == "mariadb" and "; " in sql:
            cursor.execute(mariadb.block(sql))
        else:
            cursor.execute(sql)

    def in_transaction(self, raw: Any) -> bool:
        """True when the driver's connection is in one."""
        if self.name == "mariadb":
            return mariadb_session.in_transaction(raw)
        return bool(raw.info.transaction_status if self.name == "postgresql" else raw.in_transaction)

    @property
    def has_one_writer(self) -> bool:
        """A second transaction that writes waits for the first, also within one thread."""
        return self.name == "sqlite"

    @property
    def has_row_locks(self) -> bool:
        """Many write at once, and lock the rows that they look at."""
        return not self.has_one_writer

    @property
    def has_lock_rows(self) -> bool:
        """Rows of a table stand for locks of names."""
        return self.name == "mariadb"

    @property
    def has_advisory_locks(self) -> bool:
        """Locks of names, shared or alone, that stand in no table."""
        return self.name == "postgresql"

    @property
    def has_writing_ctes(self) -> bool:
        """A statement may hold several that write."""
        return self.name == "postgresql"

    def is_transient(self, error: BaseException) -> bool:
        """Deadlock, serialization failure or a busy file: the whole transaction may be tried again."""
        if self.name == "sqlite":
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
        if self.name == "mariadb":
            return mariadb_session.code_of(error) in mariadb_session.TRANSIENT
        return getattr(error, "sqlstate", None) in ("40001", "40P01", "55P03")

    def is_outage(self, error: BaseException) -> bool:
        """The server is gone, starting or shutting down, or out of connections or room, or a file cannot be written:
        later it may answer."""
        if self.name == "sqlite":
            return getattr(error, "sqlite_errorcode", 0) & 0xFF in NO_ROOM
        if self.name == "mariadb":
            return mariadb_session.code_of(error) in mariadb_session.OUTAGES
        state = getattr(error, "sqlstate", None) or ""
        return state[:2] in ("08", "53", "57") or (state == "" and "connection" in str(error))


def _array_text(values: Sequence[Any]) -> str:
    """Texts, numbers and None as PostgreSQL writes an array. The driver's own way takes each value through a pattern,
    which costs a sender more than the round trip."""
    cells = (
        '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        if isinstance(value, str)
        else ("NULL" if value is None else str(value))
        for value in values
    )
    return "{" + ",".join(cells) + "}"


@lru_cache(maxsize=64)
def of_arrays(insert: str, names: tuple[str, ...], numbers: frozenset[str]) -> str:
    """The insert of one row, `... VALUES (...) ON CONFLICT ...`, as one that takes an array for each parameter."""
    arrays = ", ".join(f"CAST(:{name} AS {'bigint' if name in numbers else 'text'}[])" for name in names)
    rows = f"unnest({arrays}) AS given ({', '.join(names)})"
    head, values, tail = _VALUES.match(insert).groups()  # type: ignore[union-attr]
    picked = _PARAMETER.sub(lambda m: f"given.{m[1]}" if m[1] in names else m[0], values)
    return f"{head} SELECT {picked} FROM {rows} {tail}"
