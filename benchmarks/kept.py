"""Stores that hold much, filled by SQL as the engine would have: runs that have ended, copies of one that waits."""

import time
from collections.abc import Iterable, Mapping

from celeryflows.ids import ALPHABET
from celeryflows.store.columns import metadata
from celeryflows.store.database import Store

FLOWS, NAMES, SPAN_MS = 20, 20, 30 * 86_400_000
PIECE = 250_000
DATA = '{"user_id":"u7","email":"ann@example.com","lines":[{"sku":"mug","pieces":2},{"sku":"cup","pieces":6}]}'
OUTPUT = '{"total":42,"paid":true,"lines":8}'
# Ids begin with the milliseconds, as ours do: letter by letter, so that every database can make them.
_LETTERS = [f"substr('{ALPHABET}', CAST((ms >> {45 - 5 * i}) & 31 AS int) + 1, 1)" for i in range(10)]
_DIGITS = "substr(CAST(1000000000000000 + n AS text), 2)"
_STATUS = "CASE WHEN n % 50 < 48 THEN 'completed' WHEN n % 50 = 48 THEN 'failed' ELSE 'cancelled' END"
ENDED = {
    "flows_events (id, name, data, ts, stored_at, arrived_at)": (
        f"id || 'E', 'kept/kind.' || (n % {NAMES}), '{DATA}', ms * 1000, ms * 1000, ms * 1000"
    ),
    "flows_runs (id, flow, status, event_id, turn, created_at, started_at, ended_at, sent_at, output)": (
        f"id || 'R', 'kept.flow' || (n % {FLOWS}), {_STATUS}, id || 'E', 1, ms * 1000, ms * 1000 + 5000, "
        f"ms * 1000 + 25000, ms * 1000, '{OUTPUT}'"
    ),
    "flows_steps (run_id, key, kind, state, attempts, value, turn, began, ended_at, took)": (
        f"id || 'R', 'pay', 'run', 'done', 1, '{OUTPUT}', 1, ms * 1000 + 5000, ms * 1000 + 20000, 15000"
    ),
}
# What a run has while it sleeps or waits, by the column that names the run.
OF_A_RUN = {"flows_runs": "id", "flows_steps": "run_id", "flows_waits": "run_id"}


def keep_ended(store: Store, count: int) -> float:
    """Write so many runs that have ended, made evenly over the last month; the seconds that it took."""
    began = time.perf_counter()
    start, every = time.time_ns() // 1_000_000 - SPAN_MS, SPAN_MS * 1000 // max(1, count)
    for first in range(0, count, PIECE):
        numbers = _numbers(store, first, min(first + PIECE, count))
        moments = f"(SELECT n, {start} + n * {every} / 1000 AS ms FROM {numbers}) AS moments"
        kept = f"(SELECT n, ms, {' || '.join(_LETTERS)} || {_DIGITS} AS id FROM {moments}) AS kept"
        _run(store, [f"INSERT INTO {into} SELECT {columns} FROM {kept}" for into, columns in ENDED.items()])
    look(store)
    return time.perf_counter() - began


def copy_run(store: Store, run_id: str, count: int, prefix: str, waits: Mapping[str, str] | None = None) -> None:
    """So many copies of a run that sleeps or waits, with its steps and waits. `prefix` begins their ids; `waits`: the
    SQL of columns that differ from wait to wait, where `n` counts."""
    numbers, statements = _numbers(store, 0, count), []
    id = f"'{prefix:0<11}' || {_DIGITS}"
    for table, key in OF_A_RUN.items():
        new = {key: id}
        if table == "flows_waits":
            new |= {"id": id, **(waits or {})}
        columns = [column.name for column in metadata.tables[table].columns]
        picked = ", ".join(new.get(name, f"one.{name}") for name in columns)
        rows = f"FROM {numbers}, {table} one WHERE one.{key} = '{run_id}'"
        statements.append(f"INSERT INTO {table} ({', '.join(columns)}) SELECT {picked} {rows}")
    _run(store, statements)
    look(store)


def drop_copies(store: Store, prefix: str) -> None:
    """Delete the copies whose ids begin so."""
    _run(
        store,
        [f"DELETE FROM {table} WHERE {key} >= '{prefix}' AND {key} < '{prefix}~'" for table, key in OF_A_RUN.items()],
    )


def look(store: Store) -> None:
    """The database looks at its tables, as a server does by itself."""
    if store.dialect.name == "postgresql":
        _run(store, ["VACUUM ANALYZE"])


def _numbers(store: Store, first: int, end: int) -> str:
    if store.dialect.name == "postgresql":
        return f"(SELECT generate_series({first}::bigint, {end - 1}) AS n) AS numbers"
    one_more = f"SELECT n + 1 FROM c WHERE n < {end - 1}"
    return f"(WITH RECURSIVE c(n) AS (SELECT {first} UNION ALL {one_more}) SELECT n FROM c) AS numbers"


def _run(store: Store, statements: Iterable[str]) -> None:
    """Each as the driver takes it, and its own commit."""
    percent = "%%" if store.dialect.name == "postgresql" else "%"
    with store.engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement.replace("%", percent))
