"""The database goes away and comes back: statements, transactions and turns go on, and nothing is written twice."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from celeryflows.engine.intake import send
from celeryflows.engine.turn import take_turn
from celeryflows.errors import StoreUnavailable
from celeryflows.model.events import Event
from celeryflows.model.runs import Status
from celeryflows.store import connection as connection_module
from celeryflows.store.connection import Connection
from celeryflows.store.database import Store
from celeryflows.store.upgrade import upgrade
from tests.conftest import without
from tests.kinds import MARIADB
from tests.mariadb import Mariadb, running_mariadb
from tests.servers import Postgres, ServerMissing, running_postgres
from tests.store.making import FLOW, a_runtime, a_step, at_once, outcome, put_event, put_run, rows_of, running

Server = Postgres | Mariadb


@pytest.fixture(scope="module", params=["postgres", MARIADB])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server that these tests may crash."""
    running = running_postgres if request.param == "postgres" else running_mariadb
    try:
        with running() as made:
            yield made
    except ServerMissing as missing:
        without(missing)


@pytest.fixture
def lasting(server: Server) -> Iterator[Store]:
    """A store on it, which waits long for its server."""
    made = Store(server.url(server.create_database()), patience=20)
    upgrade(made)
    yield made
    made.dispose()


def restart(server: Server) -> None:
    server.crash()
    server.start()


def test_a_statement_after_a_restart_says_what_is_wrong_and_the_next_try_goes_through(
    server: Server, lasting: Store
) -> None:
    claim = running(lasting)
    with lasting.connection() as connection:
        assert connection.runs.outcome(claim.run_id)
        restart(server)
        with pytest.raises(StoreUnavailable, match=r"does not answer .*flows_store_url.*What was accepted is kept"):
            connection.steps.record(a_step(claim))
        assert connection.steps.record(a_step(claim))


def test_a_transaction_that_a_restart_cuts_is_done_again_as_a_whole(server: Server, lasting: Store) -> None:
    tries: list[int] = []

    def work(tx: Connection) -> None:
        tries.append(1)
        tx.once.take(f"k{len(tries)}", "run", 10**9)
        if len(tries) == 1:
            restart(server)
        tx.once.take("last", "run", 10**9)

    lasting.transact(work)
    assert rows_of(lasting, "SELECT key FROM flows_once ORDER BY key") == [("k2",), ("last",)]


def test_a_turn_goes_on_over_restarts_and_runs_no_step_twice(server: Server, lasting: Store) -> None:
    ran: list[str] = []

    def step(name: str) -> str:
        ran.append(name)
        restart(server)
        return name

    def handler(ctx: Any) -> Any:
        value = ctx.step.run("a", step, "a") + ctx.step.run("b", step, "b")
        ctx.step.send_event("tell", Event("shop/told"))
        restart(server)
        return value

    run_id = put_run(lasting)
    assert take_turn(a_runtime(lasting, {FLOW: handler}), run_id).value == "ab"
    assert ran == ["a", "b"]
    assert outcome(lasting, run_id).status == Status.COMPLETED
    assert rows_of(lasting, "SELECT count(*) FROM flows_events WHERE name = 'shop/told'") == [(1,)]


def test_a_whole_pool_of_dead_connections_is_gone_through(server: Server, lasting: Store) -> None:
    event_id = put_event(lasting)

    def look(_: int) -> bool:
        with lasting.connection() as connection:
            connection.execute("SELECT SLEEP(0.2)" if isinstance(server, Mariadb) else "SELECT pg_sleep(0.2)")
            return connection.repeat(lambda: connection.events.get(event_id) is not None)

    assert all(at_once(8, look))
    restart(server)
    with ThreadPoolExecutor(8) as pool:
        looks = [pool.submit(_repeated, lasting, event_id) for _ in range(8)]
    assert all(look.result() for look in looks)


def _repeated(store: Store, event_id: str) -> bool:
    with store.connection() as connection:
        return connection.repeat(lambda: connection.events.get(event_id) is not None)


def test_senders_wait_for_a_server_that_comes_back(
    server: Server, lasting: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However few tries a conflict gets: an outage is bounded by time.
    monkeypatch.setattr(connection_module, "TRIES", 2)
    put_event(lasting)
    server.crash()
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send, a_runtime(lasting), [Event("shop/ordered")])
        with pytest.raises(TimeoutError):
            sending.result(1)
        # By this thread: the server ends with the one that started it.
        server.start()
        [event_id] = sending.result(20)
    assert rows_of(lasting, "SELECT count(*) FROM flows_events WHERE id = :id", id=event_id) == [(1,)]


def test_a_server_that_stays_away_is_given_up_after_the_stores_patience(server: Server, lasting: Store) -> None:
    lasting.patience = 0.5
    put_event(lasting)
    server.crash()
    try:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            send(a_runtime(lasting), [Event("shop/ordered")])
        assert 0.4 < time.monotonic() - began < 5
    finally:
        server.start()
    assert rows_of(lasting, "SELECT count(*) FROM flows_events") == [(1,)]


def test_a_session_that_an_operator_ends_is_replaced(lasting: Store) -> None:
    claim = running(lasting)
    with lasting.connection() as connection:
        if lasting.dialect.name == "mariadb":
            [(pid,)] = connection.execute("SELECT CONNECTION_ID()")
            rows_of(lasting, "KILL :pid", pid=pid)
        else:
            [(pid,)] = connection.execute("SELECT pg_backend_pid()")
            rows_of(lasting, "SELECT pg_terminate_backend(:pid)", pid=pid)
        assert connection.repeat(lambda: connection.steps.record(a_step(claim)))


def test_a_writer_on_sqlite_waits_for_the_one_before(migrated_sqlite: str) -> None:
    store = Store(migrated_sqlite)
    claim = running(store)
    with ThreadPoolExecutor(1) as pool:
        with store.begin() as tx:
            tx.once.take("k", "run", 1)
            with store.connection() as connection:
                waiting = pool.submit(connection.steps.record, a_step(claim))
                with pytest.raises(TimeoutError):
                    waiting.result(0.3)
        assert waiting.result(10)
    store.dispose()
