"""A look at what is due reads what is due, on the database's own clock: not all that sleeps, waits or lies in line."""

import time
from collections.abc import Callable

from celeryflows.store.connection import Connection
from tests.store.plans import WatchedStore, analyze, numbers_to, rows_read

LATER, MOST = 4_000, 400
# By table: what lies in the future, each row with its number in it.
ROWS = {
    "flows_runs (id, flow, status, event_id, created_at, wake_at, expires_at, finish_by)": (
        "'r' || n, 'f', 'suspended', 'e', 1, :at + n, :at + n, :at + n"
    ),
    "flows_branches (run_id, path, group_path, parent_path, idx, status, created_at, wake_at)": (
        "'r' || n, 'p', 'g', '', 0, 'suspended', 1, :at + n"
    ),
    "flows_events (id, name, data, ts, stored_at)": "'e' || n, 'shop/e', '{}', 1, :at + n",
    "flows_calls (run_id, flow, id, name, data, ts, stored_at)": "'c' || n, 'f', 'e', 'shop/e', '{}', 1, :at + n",
    "flows_crons (flow, trigger_no, def_hash, definition, next_at)": "'f' || n, 0, 'h', '{}', :at + n",
    "flows_debounces (key, run_id, ts, fire_at)": "'k' || n, 'r', 1, :at + n",
    "flows_batches (key, run_id, n, bytes, deadline)": "'k' || n, 'r', 1, 1, :at + n",
    "flows_meters (key, flow, kind, tat, next_at)": "'k' || n, 'f', 'throttle', 1, :at + n",
    "flows_once (key, run_id, expires_at)": "'k' || n, 'r', :at + n",
    "flows_replays (id, flow, selection, pace, total, next_at, started_at)": "'r' || n, 'f', '{}', 1, 1, :at + n, 1",
    "flows_figures (flow, at, next_at)": "'', n, :at + n",
    "flows_tasks (id, run_id, key, queue, input, sent_at, next_at)": "'t' || n, 'r' || n, 'k', 'q', '{}', 1, :at + n",
}
QUEUED = (
    "INSERT INTO flows_runs (id, flow, status, event_id, created_at, sent_at) SELECT 'q' || n, 'f', 'queued', 'e', 1, "
    ":at + n FROM {numbers}",
    "INSERT INTO flows_branches (run_id, path, group_path, parent_path, idx, status, created_at, sent_at) "
    "SELECT 'q' || n, 'p', 'g', '', 0, 'queued', 1, :at + n FROM {numbers}",
)
LOOKS: list[Callable[[Connection], object]] = [
    lambda c: c.dues.look().due,
    lambda c: c.runs.due(),
    lambda c: c.branches.due(),
    lambda c: c.bounds.past("expires_at"),
    lambda c: c.bounds.past("finish_by"),
    lambda c: c.messages.unclaimed(1),
    lambda c: c.events.unrouted(1),
    lambda c: c.calls.left(1),
    lambda c: c.crons.due(),
    lambda c: c.debounces.due(),
    lambda c: c.batches.due(),
    lambda c: c.throttles.due(),
    lambda c: c.once.prune(),
    lambda c: c.replays.due(),
    lambda c: c.figures.due(4),
    lambda c: c.tasks.due(200),
]


def fill(store: WatchedStore) -> None:
    at = time.time_ns() // 1000 + 3_600_000_000
    numbers = numbers_to(store, LATER)
    with store.connection() as connection:
        for into, values in ROWS.items():
            connection.execute(f"INSERT INTO {into} SELECT {values} FROM {numbers}".replace(":at", str(at)))
        for sql in QUEUED:
            connection.execute(sql.format(numbers=numbers).replace(":at", str(at)))
    analyze(store, *(into.split()[0] for into in ROWS))


def test_a_look_reads_what_is_due_and_not_what_comes_later(migrated_url: str) -> None:
    store = WatchedStore(migrated_url)
    fill(store)
    with store.connection() as connection:
        store.seen.clear()
        store.read.clear()
        for look in LOOKS:
            assert not look(connection)
    # MariaDB has counted already.
    read = store.read or {sql: rows_read(store, sql, params) for sql, params in store.seen.items()}
    store.dispose()
    assert len(read) >= len(LOOKS)
    assert {" ".join(sql.split()): rows for sql, rows in read.items() if rows > MOST} == {}
