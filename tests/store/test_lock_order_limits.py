"""The locks of limits follow the one order: who sends lists of keys in other orders, fires, wakes and leaves waits, and
none is sacrificed to a deadlock. Without the order each of them is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from celeryflows.engine import idempotency, passage, rate_limits, singletons, windows
from celeryflows.engine.closing import close_due
from celeryflows.engine.intake import send
from celeryflows.engine.registrar import register_worker
from celeryflows.engine.resume import wake_due
from celeryflows.engine.runtime import Flow, Runtime
from celeryflows.engine.throttling import let_in_due
from celeryflows.engine.turn import take_turn
from celeryflows.model.events import Event
from celeryflows.model.flows import FlowDefinition
from celeryflows.model.limits import Batch, Concurrency, Debounce, Limits, RateLimit, Singleton, Throttle
from celeryflows.model.retries import RetryPolicy
from celeryflows.model.triggers import OnEvent
from celeryflows.store import throttles
from celeryflows.store.connection import TransientError
from celeryflows.store.database import Store
from tests.store.making import a_runtime, rows_of
from tests.store.test_lock_order import crossing
from tests.store.test_lock_order import locking as locking

KEY = "event.data.key"
# Gates are locked by functions, or by rows that stand for them.
GATES = ("pg_advisory_xact_lock", "flows_locks")
# By limit: where its keys are put in order, and the words of the statement that locks.
ORDERED: dict[str, tuple[Limits, Any, str | tuple[str, ...]]] = {
    "idempotency": (Limits(idempotency=KEY), idempotency, "flows_once"),
    "rate limit": (Limits(rate_limit=RateLimit(5, "1m", key=KEY)), rate_limits, "INTO flows_meters"),
    "throttle": (Limits(throttle=Throttle(5, "1m", key=KEY)), throttles, "flows_meters"),
    "debounce": (Limits(debounce=Debounce("1m", key=KEY)), windows, "INTO flows_debounces"),
    "batch": (Limits(batch=Batch(9, "1m", key=KEY)), windows, "INTO flows_batches"),
    "singleton": (Limits(singleton=Singleton("skip", key=KEY)), singletons, "INTO flows_singletons"),
    "concurrency": (Limits(concurrency=(Concurrency(5, key=KEY),)), passage, GATES),
    "two limits": (Limits(concurrency=(Concurrency(5), Concurrency(5, key=KEY))), passage, GATES),
}


def limited(store: Store, limits: Limits) -> Runtime:
    """An engine with one flow, which has these limits."""
    runtime = a_runtime(store)
    definition = FlowDefinition("limited", triggers=(OnEvent("shop/limited"),), limits=limits)
    runtime.flows = {"limited": Flow(definition, lambda ctx: None, RetryPolicy())}
    register_worker(runtime)
    return runtime


def asked(runtime: Runtime, *keys: str) -> Callable[[], object]:
    return lambda: send(runtime, [Event("shop/limited", {"key": key}) for key in keys])


def lists_that_cross(store: Store, limits: Limits, word: str | tuple[str, ...], times: int = 1) -> None:
    """Two senders, each with the keys of the other the other way round; they may miss each other once."""
    runtime = limited(store, limits)
    for _ in range(times):
        crossing(store, word, asked(runtime, "a", "b"), asked(runtime, "b", "a"))


@pytest.mark.parametrize("limit", ORDERED)
def test_lists_with_the_same_keys_in_another_order_do_not_deadlock(locking: Store, limit: str) -> None:
    limits, _, word = ORDERED[limit]
    lists_that_cross(locking, limits, word)
    assert rows_of(locking, "SELECT count(*) FROM flows_events") == [(4,)]


def as_they_come(ones: Any, key: Any = None) -> Any:
    return list(ones)


# The keys of a throttle, and the gates of a list, go in one statement, between whose rows nobody can be made to come.
@pytest.mark.parametrize("limit", [one for one in ORDERED if one not in ("throttle", "concurrency", "two limits")])
def test_without_the_order_they_would(locking: Store, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limits, where, word = ORDERED[limit]
    monkeypatch.setattr(where, "sorted", as_they_come, raising=False)
    monkeypatch.setattr(where, "min", lambda ones: next(iter(ones)), raising=False)
    with pytest.raises(TransientError, match=r"(?i)deadlock"):
        lists_that_cross(locking, limits, word, times=8)


def test_windows_close_while_events_come_to_them(locking: Store) -> None:
    for limits in (Limits(debounce=Debounce("1s", key=KEY), idempotency=KEY), Limits(batch=Batch(9, "1s", key=KEY))):
        runtime = limited(locking, limits)
        asked(runtime, "a", "b")()
        rows_of(locking, "UPDATE flows_debounces SET fire_at = 0 WHERE true RETURNING key")
        rows_of(locking, "UPDATE flows_batches SET deadline = 0 WHERE true RETURNING key")
        crossing(locking, "flows_", asked(runtime, "b", "a"), lambda: close_due(runtime))  # noqa: B023
    assert rows_of(locking, "SELECT count(*) FROM flows_events") == [(8,)]


@contextmanager
def suppress_all_but_deadlocks() -> Iterator[None]:
    try:
        yield
    except TransientError as error:
        if "deadlock" in str(error).lower():
            raise


def test_a_start_that_a_singleton_delayed_crosses_others_that_take_its_place(locking: Store) -> None:
    runtime = limited(locking, Limits(singleton=Singleton("cancel", key=KEY), concurrency=(Concurrency(1),)))
    asked(runtime, "a", "b")()
    rows_of(locking, "UPDATE flows_runs SET status = 'scheduled', wake_at = 1 WHERE true RETURNING id")

    def woken() -> None:
        # Who is replaced at that moment makes it look again: that is no deadlock.
        with suppress_all_but_deadlocks():
            wake_due(runtime)

    crossing(locking, "flows_", asked(runtime, "b", "a"), woken)
    wake_due(runtime)
    assert rows_of(locking, "SELECT 1 FROM flows_runs WHERE status = 'scheduled' AND wake_at <= 1") == []


def test_a_throttle_lets_in_while_others_join_its_line_and_turns_leave_the_gate_behind_it(locking: Store) -> None:
    limits = Limits(throttle=Throttle(1, "1h", key=KEY), concurrency=(Concurrency(1, key=KEY), Concurrency(1)))
    runtime = limited(locking, limits)
    asked(runtime, "a", "b", "a", "b")()
    rows_of(
        locking, "UPDATE flows_meters SET tat = 0, next_at = CASE WHEN next_at > 0 THEN 0 END WHERE true RETURNING key"
    )
    [run] = [row[0] for row in rows_of(locking, "SELECT id FROM flows_runs WHERE held_at IS NULL")]
    crossing(
        locking,
        "flows_",
        asked(runtime, "b", "a"),
        lambda: let_in_due(runtime),
        lambda: take_turn(runtime, run),
    )
    assert rows_of(locking, "SELECT status FROM flows_runs WHERE id = :id", id=run) == [("completed",)]
    held = rows_of(locking, "SELECT count(*) FROM flows_slots WHERE run_id IS NOT NULL GROUP BY gate")
    assert set(held) == {(1,)}
