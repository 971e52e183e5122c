"""Whoever locks follows one order: transactions that cross each other wait, none is sacrificed to a deadlock."""

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from celeryflows.engine.intake import send
from celeryflows.engine.recording import Recorder
from celeryflows.engine.resume import requeue, wake_due
from celeryflows.engine.settings import Settings
from celeryflows.engine.turn import never
from celeryflows.model.events import Event
from celeryflows.scheduler.figures import BUCKET, count_bucket
from celeryflows.store.connection import Connection, TransientError
from celeryflows.store.database import Store
from celeryflows.store.runs import Claim
from celeryflows.store.totals import LOST
from tests.store.making import (
    a_runtime,
    a_step,
    a_wait,
    held,
    put_run,
    rows_of,
    running,
    take_claim,
    until_somebody_waits,
)

BAD = "async.data.missing.field > 1"
SHORT_WAITS = {
    "postgresql": "SET LOCAL lock_timeout = '2s'",
    "mariadb": "SET SESSION innodb_lock_wait_timeout = 2",
}


@pytest.fixture(params=["postgres", "mariadb"])
def locking(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store whose transactions are not tried again: a deadlock shows."""
    monkeypatch.setattr("celeryflows.store.connection.TRIES", 1)
    store = Store(request.getfixturevalue(f"migrated_{request.param}"))
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


def crossing(store: Store, at: str | tuple[str, ...], *calls: Callable[[], object]) -> None:
    """Run the calls in threads of their own; each comes to its second such statement when all have come to one."""
    words = (at,) if isinstance(at, str) else at
    met = threading.Barrier(len(calls))
    own = threading.local()

    def meet(sql: str) -> None:
        if any(word in sql for word in words) and not getattr(own, "met", False):
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


def test_senders_that_note_problems_of_the_same_waits_do_not_deadlock(locking: Store) -> None:
    for name in ("shop/a", "shop/b"):
        waiting(locking, name, if_exp=BAD)
    runtime = a_runtime(locking)
    crossing(
        locking,
        "SET problem",
        lambda: send(runtime, [Event("shop/a"), Event("shop/b")]),
        lambda: send(runtime, [Event("shop/b"), Event("shop/a")]),
    )
    assert len(rows_of(locking, "SELECT 1 FROM flows_waits WHERE problem IS NOT NULL")) == 2


def test_a_problem_is_noted_only_once_the_runs_are_locked(locking: Store) -> None:
    waiting(locking, "shop/a", if_exp=BAD)
    answered = waiting(locking, "shop/a")
    with ThreadPoolExecutor(1) as pool:
        with locking.begin() as tx:
            runs = sorted(row[0] for row in tx.execute("SELECT id FROM flows_runs"))
            tx.runs.lock(runs)
            sending = pool.submit(send, a_runtime(locking), [Event("shop/a")])
            until_somebody_waits(locking)
            # As the timers do; the sender waits for a run and may not hold a wait.
            tx.execute(SHORT_WAITS[locking.dialect.name])
            tx.waits.expire(runs)
        sending.result(30)
    assert rows_of(locking, "SELECT state FROM flows_waits WHERE run_id = :run", run=answered.run_id) == [("expired",)]


def test_timers_and_senders_that_meet_on_the_same_runs_do_not_deadlock(locking: Store) -> None:
    for _ in range(20):
        waiting(locking, "shop/a")
    runtime = a_runtime(locking)
    crossing(locking, "flows_waits", lambda: send(runtime, [Event("shop/a")]), lambda: wake_due(runtime))
    assert rows_of(locking, "SELECT 1 FROM flows_waits WHERE state = 'open'") == []


def test_running_runs_that_answer_each_others_waits_do_not_deadlock(locking: Store) -> None:
    claims = {name: waiting(locking, name, suspended=False) for name in ("shop/a", "shop/b")}

    def tell(sender: str, name: str) -> None:
        claim = claims[sender]
        with locking.connection() as connection:
            recorder = Recorder(a_runtime(locking), connection, claim, never)
            recorder.send([Event(name)], [f"e-{name}"], a_step(claim, "tell", kind="send"))

    crossing(locking, "flows_runs", lambda: tell("shop/a", "shop/b"), lambda: tell("shop/b", "shop/a"))
    assert len(rows_of(locking, "SELECT 1 FROM flows_steps")) == 2
    assert rows_of(locking, "SELECT 1 FROM flows_waits WHERE state = 'open'") == []


def test_keys_are_forgotten_around_those_who_take_them(locking: Store) -> None:
    with locking.connection() as connection:
        for number, key in enumerate("ab"):
            connection.once.take(key, "old", number - 1000)
    with ThreadPoolExecutor(1) as pool, locking.begin() as tx:
        assert tx.once.take("b", "new", 10**9)
        pruned = pool.submit(_in_a_connection, locking, lambda c: c.once.prune())
        assert pruned.result(5) == 1
        assert tx.once.take("a", "new", 10**9)
    assert rows_of(locking, "SELECT key, run_id FROM flows_once ORDER BY key") == [("a", "new"), ("b", "new")]


def test_messages_are_sent_again_around_runs_that_somebody_holds(locking: Store) -> None:
    first, second = (put_run(locking) for _ in range(2))
    with locking.connection() as connection:
        connection.flows.put_fact("broker_epoch_at", str(2**60))
    with ThreadPoolExecutor(1) as pool, locking.begin() as tx:
        tx.runs.lock([second])
        sent = pool.submit(_in_a_connection, locking, lambda c: c.messages.resend_all(10))
        assert [delivery.run_id for delivery in sent.result(5)] == [first]
        tx.runs.lock([first])


@pytest.mark.parametrize("locking", ["postgres"], indirect=True)
@pytest.mark.parametrize("losses", [1, 10])
def test_a_loss_is_counted_last_and_holds_up_nobody_who_counts(locking: Store, losses: int) -> None:
    """Where one loss is one too many the run fails, and its end is written before the count."""
    lost, runtime = running(locking), a_runtime(locking)
    runtime.settings = Settings(max_lost=losses)
    with ThreadPoolExecutor(1) as pool:
        with locking.begin() as tx:
            tx.runs.lock([lost.run_id])
            counted = pool.submit(requeue, runtime, held(lost))
            until_somebody_waits(locking)
            # As who counts the flow's runs, and then waits for none of them.
            tx.execute(SHORT_WAITS[locking.dialect.name])
            tx.totals.add(lost.flow, {"completed": 1, LOST: 1})
        assert counted.result(30)
    assert rows_of(locking, "SELECT name, n FROM flows_totals ORDER BY name") == [("completed", 1), (LOST, 2)]


def test_after_a_total_no_transaction_locks_anything_but_further_totals(locking: Store) -> None:
    runtime, said = a_runtime(locking), list[str]()
    runtime.settings = Settings(max_lost=1)
    lost = running(locking)
    locking.observer = said.append
    requeue(runtime, held(lost))
    with locking.connection() as connection:
        now = connection.now()
    count_bucket(runtime, now - now % BUCKET, now)
    locking.observer = None
    totals = [at for at, sql in enumerate(said) if "INTO flows_totals" in sql]
    assert len(totals) >= 2
    for at in totals:
        after = itertools.takewhile(lambda sql: sql != "COMMIT", said[at:])
        assert all("INTO flows_totals" in sql for sql in after)


def _in_a_connection(store: Store, call: Callable[[Connection], Any]) -> Any:
    with store.connection() as connection:
        return call(connection)


def test_a_deadlock_would_be_seen(locking: Store) -> None:
    runs = [put_run(locking) for _ in range(2)]

    def lock(order: list[str]) -> None:
        def work(tx: Connection) -> None:
            for run_id in order:
                tx.runs.lock([run_id])

        locking.transact(work)

    with pytest.raises(TransientError, match=r"(?i)deadlock"):
        crossing(locking, "FOR UPDATE", lambda: lock(runs), lambda: lock(runs[::-1]))
    assert take_claim(locking, runs[0])
