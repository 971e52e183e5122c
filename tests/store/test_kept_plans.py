"""PostgreSQL keeps the plans of prepared statements: one that fits while a table is small does not outlive that, and
one that stays right is not made for each event anew."""

from collections.abc import Iterator

import pytest

from celeryflows.engine.intake import send
from celeryflows.model.events import Event
from celeryflows.store import kept_plans
from celeryflows.store.database import Store
from celeryflows.store.kept_plans import DISCARD, USES
from tests.databases import prepared_database
from tests.servers import Postgres
from tests.store.making import a_runtime, a_wait, put_run, rows_of, running, take_claim
from tests.store.plans import full_scans

CLAIM = "%UPDATE flows_runs SET status = 'running', turn%"
LOOK = "SELECT w.id, w.run_id, w.key%"
# PostgreSQL decides after five tries whether it keeps a plan for all parameters.
TRIED = 5


@pytest.fixture
def store(postgres_server: Postgres) -> Iterator[Store]:
    """A store of its own: its tables are as small as what is in them, and the server does not look at them itself."""
    store = Store(postgres_server.url(prepared_database(postgres_server)))
    with store.engine.connect() as connection:
        for table in ("flows_runs", "flows_events", "flows_waits"):
            connection.exec_driver_sql(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
    yield store
    store.dispose()


def analyze(store: Store) -> None:
    with store.engine.connect() as connection:
        connection.exec_driver_sql("ANALYZE")


def plan_of_claims(store: Store) -> list[str]:
    """The plan that the one pooled connection goes by."""
    raw = store.engine.raw_connection()
    try:
        cursor = raw.cursor()
        cursor.execute(
            "SELECT name, cardinality(parameter_types) FROM pg_prepared_statements WHERE statement LIKE %s", [CLAIM]
        )
        name, count = cursor.fetchone()  # type: ignore[misc]
        cursor.execute(f"EXPLAIN EXECUTE {name}({', '.join(['NULL'] * count)})", prepare=False)  # type: ignore[call-arg]
        return [row[0] for row in cursor.fetchall()]
    finally:
        raw.close()


def claim_in_a_small_store(store: Store) -> None:
    for _ in range(10):
        put_run(store)
    analyze(store)
    for _ in range(2 * TRIED):
        take_claim(store, put_run(store))


def grow(store: Store) -> None:
    numbers = "FROM generate_series(1, 20000) AS n"
    with store.engine.connect() as connection:
        connection.exec_driver_sql(
            "INSERT INTO flows_runs (id, flow, status, event_id, created_at) "
            f"SELECT 'r' || n, 'f', 'completed', 'e' || n, 1 {numbers}"
        )
        connection.exec_driver_sql(
            "INSERT INTO flows_events (id, name, data, ts, stored_at) "
            f"SELECT 'e' || n, 'shop/e', '{{}}', 1, 1 {numbers}"
        )


def test_a_plan_that_was_made_for_a_small_table_is_not_kept_for_a_big_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim_in_a_small_store(store)
    grow(store)
    assert full_scans(plan_of_claims(store))
    monkeypatch.setattr(kept_plans, "AGE", 0.0)
    for _ in range(USES + 1):
        rows_of(store, "SELECT 1")
    assert not full_scans(plan_of_claims(store))


@pytest.mark.parametrize(
    ("age", "options", "times"), [(0.0, {}, 1), (600.0, {}, 0), (0.0, {"prepare_threshold": "none"}, 0)]
)
def test_plans_are_made_anew_where_some_are_kept_and_old(
    store: Store, monkeypatch: pytest.MonkeyPatch, age: float, options: dict[str, str], times: int
) -> None:
    monkeypatch.setattr(kept_plans, "AGE", age)
    url = store.url.update_query_dict(options)
    asking, said = Store(url.render_as_string(hide_password=False)), list[str]()
    asking.observer = said.append
    for _ in range(2 * USES):
        rows_of(asking, "SELECT 1")
    asking.dispose()
    assert said.count(DISCARD) == times


def test_what_an_event_asks_beside_many_waits_is_planned_once(store: Store) -> None:
    claim = running(store)
    with store.begin() as tx:
        tx.waits.add_shape("shop/paid", "data.order")
        tx.waits.arm(a_wait(claim, name="shop/paid", path="data.order", value='"one"'))
    with store.engine.connect() as connection:
        connection.exec_driver_sql(
            "INSERT INTO flows_waits (id, run_id, key, kind, name, path, hash, value, began, armed_at, state) "
            "SELECT 'w' || n, 'r' || n, 'k', 'event', 'shop/paid', 'data.order', n, n, 1, 1, 'open' "
            "FROM generate_series(1, 2000) AS n"
        )
    analyze(store)
    runtime = a_runtime(store)
    for n in range(2 * TRIED):
        send(runtime, [Event("shop/paid", {"order": n})])
    kept = rows_of(
        store, f"SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement LIKE '{LOOK}'"
    )
    assert kept == [(TRIED, TRIED)]
