"""Whoever locks follows one order: transactions that cross each other wait, none is sacrificed to a deadlock."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from celeryflows.engine.intake import send
from celeryflows.engine.recording import Recorder
from celeryflows.engine.resume import wake_due
from celeryflows.engine.turn import never
from celeryflows.model.events import Event
from celeryflows.store.connection import Connection, TransientError
from celeryflows.store.database import Store
from celeryflows.store.runs import Claim
from tests.store.making import (
    a_runtime,
    a_step,
    a_wait,
    put_run,
    rows_of,
    running,
    take_claim,
    until_somebody_waits,
)

BAD = "async.data.missing.field > 1"


@pytest.fixture
def postgres(migrated_postgres: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store whose transactions are not tried again: a deadlock shows."""
    monkeypatch.setattr("celeryflows.store.connection.TRIES", 1)
    store = Store(migrated_postgres)
    yield store
    store.dispose()


def waiting(store: Store, name: str, *, suspended: bool = True, **fields: Any) -> Claim:
    """A run that waits for an event of the name, whatever it holds."""
    claim = running(store)
    with store.begin() as tx:
        tx.waits.add_shape(name, "")
        tx.waits.arm(a_wait(claim, name=name, path="", value="", due=1, **fields))
        if suspended:
            assert tx.runs.suspend(claim, 1, 0)
    return claim


def crossing(store: Store, at: str, *calls: Callable[[], object]) -> None:
    """Run the calls in threads of their own; each comes to its second statement with the word when all came to one."""
    met = threading.Barrier(len(calls))
    own = threading.local()

    def meet(sql: str) -> None:
        if at in sql and not getattr(own, "met", False):
            own.first = getattr(own, "first", 0) + 1
            if own.first == 2:
                own.met = True
                # Nobody comes who waits for a lock of another: that is what is asked for.
                with suppress(threading.BrokenBarrierError):
                    met.wait(0.3)

    store.observer = meet
    try:
        with ThreadPoolExecutor(len(calls)) as pool:
            for call in [pool.submit(call) for call in calls]:
                call.result(30)
    finally:
        store.observer = None


def test_senders_that_note_problems_of_the_same_waits_do_not_deadlock(postgres: Store) -> None:
    for name in ("shop/a", "shop/b"):
        waiting(postgres, name, if_exp=BAD)
    runtime = a_runtime(postgres)
    crossing(
        postgres,
        "SET problem",
        lambda: send(runtime, [Event("shop/a"), Event("shop/b")]),
        lambda: send(runtime, [Event("shop/b"), Event("shop/a")]),
    )
    assert len(rows_of(postgres, "SELECT 1 FROM flows_waits WHERE problem IS NOT NULL")) == 2


def test_a_problem_is_noted_only_once_the_runs_are_locked(postgres: Store) -> None:
    waiting(postgres, "shop/a", if_exp=BAD)
    answered = waiting(postgres, "shop/a")
    with ThreadPoolExecutor(1) as pool:
        with postgres.begin() as tx:
            runs = sorted(row[0] for row in tx.execute("SELECT id FROM flows_runs"))
            tx.runs.lock(runs)
            sending = pool.submit(send, a_runtime(postgres), [Event("shop/a")])
            until_somebody_waits(postgres)
            # As the timers do; the sender waits for a run and may not hold a wait.
            tx.execute("SET LOCAL lock_timeout = '2s'")
            tx.waits.expire(runs)
        sending.result(30)
    assert rows_of(postgres, "SELECT state FROM flows_waits WHERE run_id = :run", run=answered.run_id) == [("expired",)]


def test_timers_and_senders_that_meet_on_the_same_runs_do_not_deadlock(postgres: Store) -> None:
    for _ in range(20):
        waiting(postgres, "shop/a")
    runtime = a_runtime(postgres)
    crossing(postgres, "flows_waits", lambda: send(runtime, [Event("shop/a")]), lambda: wake_due(runtime))
    assert rows_of(postgres, "SELECT 1 FROM flows_waits WHERE state = 'open'") == []


def test_running_runs_that_answer_each_others_waits_do_not_deadlock(postgres: Store) -> None:
    claims = {name: waiting(postgres, name, suspended=False) for name in ("shop/a", "shop/b")}

    def tell(sender: str, name: str) -> None:
        claim = claims[sender]
        with postgres.connection() as connection:
            recorder = Recorder(a_runtime(postgres), connection, claim, never)
            recorder.send([Event(name)], [f"e-{name}"], a_step(claim, "tell", kind="send"))

    crossing(postgres, "flows_runs", lambda: tell("shop/a", "shop/b"), lambda: tell("shop/b", "shop/a"))
    assert len(rows_of(postgres, "SELECT 1 FROM flows_steps")) == 2
    assert rows_of(postgres, "SELECT 1 FROM flows_waits WHERE state = 'open'") == []


def test_keys_are_forgotten_around_those_who_take_them(postgres: Store) -> None:
    with postgres.connection() as connection:
        for number, key in enumerate("ab"):
            connection.once.take(key, "old", number - 1000)
    with ThreadPoolExecutor(1) as pool, postgres.begin() as tx:
        assert tx.once.take("b", "new", 10**9)
        pruned = pool.submit(_in_a_connection, postgres, lambda c: c.once.prune())
        assert pruned.result(5) == 1
        assert tx.once.take("a", "new", 10**9)
    assert rows_of(postgres, "SELECT key, run_id FROM flows_once ORDER BY key") == [("a", "new"), ("b", "new")]


def test_messages_are_sent_again_around_runs_that_somebody_holds(postgres: Store) -> None:
    first, second = (put_run(postgres) for _ in range(2))
    with postgres.connection() as connection:
        connection.flows.put_fact("broker_epoch_at", str(2**60))
    with ThreadPoolExecutor(1) as pool, postgres.begin() as tx:
        tx.runs.lock([second])
        sent = pool.submit(_in_a_connection, postgres, lambda c: c.messages.resend_all(10))
        assert [delivery.run_id for delivery in sent.result(5)] == [first]
        tx.runs.lock([first])


def _in_a_connection(store: Store, call: Callable[[Connection], Any]) -> Any:
    with store.connection() as connection:
        return call(connection)


def test_a_deadlock_would_be_seen(postgres: Store) -> None:
    runs = [put_run(postgres) for _ in range(2)]

    def lock(order: list[str]) -> None:
        def work(tx: Connection) -> None:
            for run_id in order:
                tx.runs.lock([run_id])

        postgres.transact(work)

    with pytest.raises(TransientError, match="deadlock"):
        crossing(postgres, "FOR UPDATE", lambda: lock(runs), lambda: lock(runs[::-1]))
    assert take_claim(postgres, runs[0])
