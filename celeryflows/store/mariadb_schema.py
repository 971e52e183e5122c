"""What differs in MariaDB's schema: collation, and what stands for partial indexes, of which it has none.

Its DDL commits by itself: each statement is so written that an upgrade which was killed can be run again."""

import re
from typing import Any

from sqlalchemy import event

from celeryflows.store.mariadb_session import COLLATION

# By name: the columns of the plain index that serves the same queries.
_COLUMNS = {
    "flows_runs_running": "status, worker",
    "flows_runs_sent": "status, sent_at",
    "flows_runs_owing": "owes, id",
    "flows_runs_at_door": "held_at, id",
    "flows_branches_running": "status, worker",
    "flows_branches_sent": "status, sent_at",
    "flows_branches_at_door": "held_at, run_id",
    "flows_waits_open": "name, hash, state",
}
_LEAVING = "CASE WHEN ended_at IS NOT NULL AND (n1 IS NOT NULL OR n2 IS NOT NULL OR held_at IS NOT NULL) THEN 1 END"
# Or a column that is computed, null for the rows that the index is not about, and the index along it.
_COMPUTED = {
    "flows_events_unrouted": (
        "unrouted BIGINT AS (CASE WHEN arrived_at IS NULL OR piece IS NOT NULL THEN stored_at END)",
        "unrouted",
    ),
    "flows_runs_odd": (
        "odd_ended_at BIGINT AS (CASE WHEN char_length(id) <> 26 OR id >= '02' THEN ended_at END)",
        "odd_ended_at, id",
    ),
    "flows_runs_leaving": (f"leaving INTEGER AS ({_LEAVING})", "leaving"),
    "flows_branches_leaving": (f"leaving INTEGER AS ({_LEAVING})", "leaving"),
}
# How statements name them.
PARTIAL = {
    "unrouted": "unrouted",
    "by_unrouted": "unrouted",
    "odd": "odd_ended_at IS NOT NULL",
    "odd_ended_at": "odd_ended_at",
    "leaving": "u.leaving = 1",
    "leaving_branch": "u.leaving = 1",
}
_INDEX = re.compile(r"CREATE (UNIQUE )?INDEX (\w+) ON (\w+) \((.*)\)", re.DOTALL)
_DROPPED = re.compile(r"DROP INDEX (\w+) ON (\w+)")
_AGAIN = (
    (re.compile(r"^CREATE TABLE "), "CREATE TABLE IF NOT EXISTS "),
    (re.compile(r"^DROP TABLE "), "DROP TABLE IF EXISTS "),
    (re.compile(r"^DROP INDEX "), "DROP INDEX IF EXISTS "),
    (re.compile(r"^(ALTER TABLE \w+) ADD COLUMN "), r"\1 ADD COLUMN IF NOT EXISTS "),
    (re.compile(r"^(ALTER TABLE \w+) DROP COLUMN "), r"\1 DROP COLUMN IF EXISTS "),
    (re.compile(r"^INSERT INTO "), "INSERT IGNORE INTO "),
)


# One upgrade of a database at a time; longer than the longest.
_LOCK = "CONCAT('celeryflows.', SHA1(DATABASE()))"
_PATIENCE = 3600


def begin(connection: Any, lock_seconds: float = 60) -> None:
    """The connection upgrades the schema, alone: from now on its statements are as MariaDB has them, and wait so long
    for a table."""
    connection.exec_driver_sql(f"SELECT GET_LOCK({_LOCK}, {_PATIENCE})")
    connection.exec_driver_sql(f"SET SESSION lock_wait_timeout = {max(1, round(lock_seconds))}")
    event.listen(connection, "before_cursor_execute", _rewritten, retval=True)


def end(connection: Any) -> None:
    """Others may."""
    event.remove(connection, "before_cursor_execute", _rewritten)
    connection.exec_driver_sql("SET SESSION lock_wait_timeout = DEFAULT")
    connection.exec_driver_sql(f"SELECT RELEASE_LOCK({_LOCK})")


def ddl(statement: str) -> str:
    """A statement about the schema, for MariaDB."""
    text = statement.strip()
    if index := _INDEX.fullmatch(text):
        return _index(index[1] or "", index[2], index[3], index[4])
    if (dropped := _DROPPED.fullmatch(text)) and dropped[1] in _COMPUTED:
        column = _COMPUTED[dropped[1]][0].split()[0]
        return f"ALTER TABLE {dropped[2]} DROP INDEX IF EXISTS {dropped[1]}, DROP COLUMN IF EXISTS {column}"
    for pattern, again in _AGAIN:
        text = pattern.sub(again, text)
    if text.startswith(("CREATE TABLE", "ALTER TABLE")):
        text = re.sub(r"\b(?:MEDIUM)?TEXT\b(?:\(\d+\))?", "LONGTEXT", text)
    if text.startswith("CREATE TABLE"):
        text = f"{text} ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE {COLLATION}"
    return text


def _index(unique: str, name: str, table: str, columns: str) -> str:
    if name not in _COMPUTED:
        return f"CREATE {unique}INDEX IF NOT EXISTS {name} ON {table} ({_COLUMNS.get(name, columns)})"
    column, along = _COMPUTED[name]
    return f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {column} VIRTUAL, ADD INDEX IF NOT EXISTS {name} ({along})"


def _rewritten(_connection: Any, _cursor: Any, statement: str, params: Any, *_more: Any) -> tuple[str, Any]:
    return ddl(statement), params
