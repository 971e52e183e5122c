"""A store of 100,000 runs, and what a database does for a statement: the tables that it reads from end to end."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from celeryflows.store import mariadb
from celeryflows.store.connection import Connection
from celeryflows.store.database import Store
from celeryflows.store.executor import Row

RUNS = 100_000
# A condition that is said by partial indexes, and by who reads along them.
ALONG = re.compile(r"\b(sends >= 0|name > ''|stored_at >= 0)")
PARTIAL = re.compile(r"USING (COVERING )?INDEX flows_\w+_(running|sent|wake|expire|open|unrouted|at_door|leaving)\b")
ALONG_INDEX = re.compile(r"\bflows_(runs|branches|waits|events)_(running|sent|wake|expire|finish|open|unrouted)\b")
BIG = ("flows_runs", "flows_events", "flows_steps", "flows_waits", "flows_queue")
NOW = 1_700_000_000_000_000

# Of 1,000 runs 970 have ended and 30 are open, as in a store that has been at work for a while.
_STATUS = (
    "CASE WHEN n % 1000 < 940 THEN 'completed' WHEN n % 1000 < 960 THEN 'failed' WHEN n % 1000 < 970 THEN 'cancelled' "
    "WHEN n % 1000 < 990 THEN 'suspended' WHEN n % 1000 < 994 THEN 'running' WHEN n % 1000 < 998 THEN 'queued' "
    "ELSE 'scheduled' END"
)
_ID = "substr('0000000000' || n, -10)"
# Ids and times rise together; half of the sleepers are due in the past.
FILL = (
    f"INSERT INTO flows_events (id, name, data, ts, stored_at, arrived_at) SELECT 'e' || {_ID}, 'shop/e' || (n % 50), "
    "'{}', n, {start} + n * 1000000, CASE WHEN n % 1000 <> 7 THEN {start} + n * 1000000 END FROM numbers",
    "INSERT INTO flows_runs (id, flow, status, event_id, turn, worker, claim_tok, created_at, sent_at, wake_at, "
    f"expires_at) SELECT 'r' || {_ID}, CASE WHEN n < 20 THEN 'shop.rare' ELSE 'shop.f' || (n % 20) END, {_STATUS}, "
    f"'e' || {_ID}, 1, CASE WHEN {_STATUS} = 'running' THEN 'w' || (n % 7) END, n, {{start}} + n * 1000000, "
    "{start} + n * 1000000, "
    f"CASE WHEN {_STATUS} IN ('suspended', 'scheduled') THEN {{start}} + (n % 200) * 1000000000 END, "
    f"CASE WHEN {_STATUS} = 'queued' THEN {{start}} + (n % 200) * 1000000000 END FROM numbers",
    "INSERT INTO flows_steps (run_id, key, kind, state, attempts, value, turn, began, ended_at) "
    f"SELECT 'r' || {_ID}, 's' || k, 'run', 'done', 1, '1', 1, n, n FROM numbers, "
    "(SELECT 1 AS k UNION ALL SELECT 2) AS twice",
    "INSERT INTO flows_waits (id, run_id, key, kind, name, path, hash, value, began, armed_at, state, due_at) "
    f"SELECT 'w' || {_ID}, 'r' || {_ID}, 's1', 'event', 'shop/e' || (n % 5), 'data.x', n, '1', n, n, "
    f"CASE WHEN {_STATUS} = 'suspended' THEN 'open' ELSE 'answered' END, n FROM numbers",
    "INSERT INTO flows_once (key, run_id, expires_at) SELECT 'k' || n, 'r', {start} + n * 1000000 FROM numbers",
    # A thousand gates with a hundred who wait at each, and two slots.
    "INSERT INTO flows_queue (gate, rank, run_id, branch, joined_at) "
    f"SELECT '1g' || (n % 1000), n, 'r' || {_ID}, '', n FROM numbers",
    "INSERT INTO flows_slots (gate, no, run_id, branch) "
    f"SELECT '1g' || (n % 1000), n / 1000 + 1, 'r' || {_ID}, '' FROM numbers WHERE n < 2000",
    "INSERT INTO flows_shapes (name, path) SELECT 'shop/e' || n, 'data.x' FROM numbers WHERE n <= 50",
)


def fill(store: Store, *, analyzed: bool, misled: bool = False) -> None:
    """Write the rows, and have the database look at them: a server does so by itself, a file is never looked at.
    `misled`: it looked before there were any, and believes since that nothing is queued, open or at work."""
    postgres = store.dialect.name == "postgresql"
    numbers = numbers_to(store, RUNS)
    start = str(NOW - RUNS * 1_000_000)
    with store.engine.connect() as connection:
        for table in BIG if misled else ():
            connection.exec_driver_sql(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
            connection.exec_driver_sql(f"ANALYZE {table}")
        connection.exec_driver_sql(store.dialect.begin)
        for sql in FILL:
            sql = sql.replace("{start}", start).replace("FROM numbers", f"FROM {numbers}").replace("%", "%%")
            if store.dialect.name == "mariadb":
                sql = mariadb.translated(sql.replace(" / ", " DIV "))
            if postgres:
                sql = re.sub(r"substr\('0000000000' \|\| n, -10\)", "lpad(n::text, 10, '0')", sql)
            connection.exec_driver_sql(sql.replace("%%", "%") if store.dialect.name == "sqlite" else sql)
        connection.exec_driver_sql("COMMIT")
    if analyzed:
        analyze(store, *BIG)


def numbers_to(store: Store, most: int) -> str:
    """The numbers from 1 on, as a table of one column n to select from."""
    return {
        "postgresql": f"(SELECT generate_series(1, {most}::bigint) AS n) AS numbers",
        "mariadb": f"(SELECT seq AS n FROM seq_1_to_{most}) AS numbers",
        "sqlite": f"(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {most}) SELECT n FROM c)",
    }[store.dialect.name]


def analyze(store: Store, *tables: str) -> None:
    """Have the database look at its tables."""
    with store.engine.connect() as connection:
        of = f"TABLE {', '.join(tables)}" if store.dialect.name == "mariadb" else ""
        connection.exec_driver_sql(f"ANALYZE {of}")


class WatchedStore(Store):
    """Keeps each statement that it runs, in the driver's own words, with the parameters of the last time."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self.seen: dict[str, Any] = {}
        # How many rows each statement has read, where the database counts them for a session.
        self.read: dict[str, int] = {}

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection that is watched."""
        connection = _WatchedConnection(self)
        try:
            yield connection
        finally:
            connection.close()

    def watch_reports(self) -> None:
        """Keep those too that reports run by SQLAlchemy."""

        def keep(_c: object, _cursor: object, sql: str, params: Any, *_: object) -> None:
            if sql.lstrip().startswith(("SELECT", "WITH")):
                self.seen[sql] = params

        event.listen(self.engine, "before_cursor_execute", keep)


class _WatchedConnection(Connection):
    store: WatchedStore

    def _run(self, how: str, sql: str, params: Any) -> list[Row]:
        counts = self.store.dialect.name == "mariadb"
        before = _rows_of_session(self._cursor or self._open()) if counts else 0
        rows = super()._run(how, sql, params)
        text = self.store.compiled[sql]
        self.store.seen[text] = params[0] if how == "executemany" else params
        if counts:
            self.store.read[text] = max(self.store.read.get(text, 0), _rows_of_session(self._cursor) - before)
        return rows


def _rows_of_session(cursor: Any) -> int:
    """What a session of MariaDB's has read of tables and indexes; this look adds a few."""
    cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read%'")
    return sum(int(row[1]) for row in cursor.fetchall())


def plan(store: Store, sql: str, params: Any) -> list[str]:
    """The plan, a line each. On PostgreSQL for these values, then the one that a prepared statement may fall to."""
    raw = store.engine.raw_connection()
    try:
        cursor = raw.cursor()
        if store.dialect.name == "sqlite":
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}", params)
            return [row[3] for row in cursor.fetchall()]
        cursor.execute(f"EXPLAIN {sql}", params)
        lines = [row[0] for row in cursor.fetchall()]
        cursor.execute("SET plan_cache_mode = force_generic_plan")
        names: list[str] = []
        numbered = re.sub(r"%\((\w+)\)s(::\w+)?", lambda m: _numbered(m, names), sql).replace("%%", "%")
        cursor.execute(f"PREPARE p AS {numbered}")
        cursor.execute(f"EXPLAIN EXECUTE p({', '.join(['NULL'] * len(names))})" if names else "EXPLAIN EXECUTE p")
        lines += [row[0] for row in cursor.fetchall()]
        cursor.execute("DEALLOCATE p")
        cursor.execute("RESET plan_cache_mode")
        return lines
    finally:
        raw.close()


def _numbered(match: re.Match[str], names: list[str]) -> str:
    if match[1] not in names:
        names.append(match[1])
    return f"${names.index(match[1]) + 1}{match[2] or ''}"


def rows_read(store: Store, sql: str, params: Any) -> int:
    """About how many rows of tables and indexes the query reads when it runs with these values."""
    raw = store.engine.raw_connection()
    try:
        cursor = raw.cursor()
        if store.dialect.name == "sqlite":
            return _rows_of_sqlite(raw.driver_connection, sql, params)
        if store.dialect.name == "mariadb":
            before = _rows_of_session(cursor)
            cursor.execute(sql, params)
            cursor.fetchall()
            return _rows_of_session(cursor) - before
        cursor.execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {sql}", params)
        return _rows_of_node(cursor.fetchone()[0][0]["Plan"])
    finally:
        raw.close()


def _rows_of_sqlite(connection: Any, sql: str, params: Any) -> int:
    """By the steps of its machine, of which it takes ten or so for a row."""
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    connection.set_progress_handler(count, 10)
    try:
        connection.execute(sql, params).fetchall()
    finally:
        connection.set_progress_handler(None, 0)
    return steps


def _rows_of_node(node: dict[str, Any]) -> int:
    below = sum(_rows_of_node(child) for child in node.get("Plans", []))
    if "Scan" not in node["Node Type"]:
        return below
    read = sum(node.get(key, 0) for key in ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck"))
    return below + int(read * node["Actual Loops"])


def strays(sql: str, lines: list[str]) -> list[str]:
    """The lines by which what is found by its key is sought through all that is queued, open, due or at work."""
    if ALONG.search(sql):
        return []
    return [line for line in lines if ALONG_INDEX.search(line)]


def full_scans(lines: list[str]) -> list[str]:
    """The lines that read a big table, or one of its whole indexes, from end to end."""
    found = []
    for at, line in enumerate(lines):
        words = line.strip(" ->")
        if any(re.match(rf"(Parallel )?Seq Scan on {table}\b", words) for table in BIG):
            found.append(line)
        elif re.match(r"(Parallel )?(Index|Index Only|Bitmap Index) Scan", words):
            # A partial index is as small as what it holds.
            has_condition = at + 1 < len(lines) and "Index Cond" in lines[at + 1]
            if not has_condition and re.search(r"(_pkey|_by_\w+|_of_run)\b", words):
                found.append(line)
        elif re.match(rf"SCAN ({'|'.join(BIG)}|[a-z])\b", words) and not PARTIAL.search(words):
            found.append(line)
    return found
