"""A store with 100,000 runs in the proportions of a busy shop: nearly all ended, a few of each open kind."""

from celeryflows.store.database import Store

RUNS = 100_000
NUMBERS = {
    "sqlite": f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {RUNS}) ",
    "postgresql": f"WITH n AS (SELECT i FROM generate_series(1, {RUNS}) AS i) ",
}
STATUS = (
    "CASE WHEN i % 50 = 0 THEN 'suspended' WHEN i % 99 = 0 THEN 'queued' WHEN i % 4000 = 1 THEN 'running' "
    "WHEN i % 200 = 3 THEN 'failed' ELSE 'completed' END"
)
FILL = (
    "INSERT INTO flows_events (id, name, data, ts, stored_at, arrived_at) "
    "SELECT 'e' || (1000000 + i), CASE WHEN i % 2 = 0 THEN 'shop/paid' ELSE 'shop/ordered' END, '{}', i, i, i FROM n",
    "INSERT INTO flows_runs (id, flow, status, event_id, turn, worker, claim_tok, created_at, sent_at, wake_at) "
    f"SELECT 'r' || (1000000 + i), 'flow' || (i % 20), {STATUS}, 'e' || (1000000 + i), 1, "
    "CASE WHEN i % 4000 = 1 THEN 'w' || (i % 3) END, 7, i, i, "
    "CASE WHEN i % 50 = 0 THEN 10000000000000000 + i END FROM n",
    "INSERT INTO flows_steps (run_id, key, kind, state, attempts, value, turn, began, ended_at) "
    "SELECT 'r' || (1000000 + i), 'step', 'run', 'done', 1, '1', 1, i, i FROM n",
    "INSERT INTO flows_waits (id, run_id, key, kind, name, path, hash, value, began, armed_at, state, due_at) "
    "SELECT 'w' || (1000000 + i), 'r' || (1000000 + i), 'wait', 'event', 'shop/paid', 'data.id', i, i, i, i, "
    "CASE WHEN i % 5 = 0 THEN 'open' ELSE 'answered' END, 10000000000000000 + i FROM n",
)


def fill(store: Store) -> None:
    """Fill the store and let the database learn its numbers."""
    with store.connection() as connection:
        for insert in FILL:
            target, values = insert.split(") SELECT", 1)
            # The common table expression stands before the INSERT on both.
            connection.execute(f"{NUMBERS[store.dialect.name]}{target}) SELECT{values}")
        connection.execute("ANALYZE")
