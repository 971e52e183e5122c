"""Limits of one flow beside each other: each in its place, none undoes another."""

from typing import Any

import pytest

from celeryflows import Batch, Concurrency, Debounce, Event, Priority, RateLimit, Singleton, Status, Throttle
from celeryflows.durations import to_datetime
from tests.engine.world import NEW_YEAR, World, statuses

EVENT = "job/asked"


def declared(world: World, **options: Any) -> list[Any]:
    """A flow that tells in which order its runs ran."""
    order: list[Any] = []

    @world.flow(name="shop.job", trigger=EVENT, **options)
    def job(ctx: Any) -> Any:
        order.append([event.data.get("n") for event in ctx.events])
        return len(ctx.events)

    world.start_worker()
    return order


def ask(world: World, *numbers: int, **more: Any) -> None:
    world.flows.send([Event(EVENT, {"n": n, **more}) for n in numbers])


def test_under_limit_1_high_priority_runs_before_low(turned: World) -> None:
    order = declared(turned, concurrency=1, priority=Priority("event.data.head"))
    ask(turned, 0, head=0)
    ask(turned, 1, head=-100)
    ask(turned, 2)
    ask(turned, 3, head=100)
    ask(turned, 4, head="much")
    turned.run_due()
    assert order == [[0], [3], [2], [4], [1]]


def test_a_priority_is_clamped_to_ten_minutes(turned: World) -> None:
    order = declared(turned, concurrency=1, priority=Priority("event.data.head"))
    ask(turned, 0)
    ask(turned, 1, head=600)
    turned.clock.turn(1_000_000)
    # Without the clamp it would go before.
    ask(turned, 2, head=5000)
    turned.run_due()
    assert order == [[0], [1], [2]]


def test_a_debounced_run_passes_the_gate_of_its_newest_event(turned: World) -> None:
    order = declared(
        turned, debounce=Debounce("10s", key="event.data.doc"), concurrency=Concurrency(1, key="event.data.by")
    )
    ask(turned, 1, doc="x", by="ann")
    ask(turned, 2, doc="x", by="bob")
    turned.advance("10s")
    assert order == [[2]]
    (gate,) = turned.store_rows("SELECT g1 FROM flows_runs")[0]
    turned.send(EVENT, {"n": 3, "doc": "y", "by": "bob"})
    turned.advance("10s")
    assert {row[0] for row in turned.store_rows("SELECT g1 FROM flows_runs")} == {gate}
    assert turned.store_rows("SELECT n1, held_at FROM flows_runs WHERE n1 IS NOT NULL OR held_at IS NOT NULL") == []


def test_debounced_and_batched_runs_are_throttled_when_they_fire(turned: World) -> None:
    order = declared(turned, debounce=Debounce("5s", key="event.data.n"), throttle=Throttle(1, "10s"))
    ask(turned, 1, 2, 3)
    turned.advance("5s")
    assert len(order) == 1
    turned.advance("10s")
    assert len(order) == 2
    turned.advance("10s")
    assert sorted(order) == [[1], [2], [3]]


def test_full_batches_wait_for_each_other_under_limit_1_and_none_is_lost(turned: World) -> None:
    order = declared(turned, batch=Batch(2, "10s"), concurrency=1)
    for n in range(7):
        ask(turned, n)
    turned.run_due()
    turned.advance("10s")
    assert order == [[0, 1], [2, 3], [4, 5], [6]]
    assert set(statuses(turned.runs())) == {Status.COMPLETED}


def test_a_singleton_with_a_gate_gives_both_back(turned: World) -> None:
    order = declared(turned, singleton=Singleton("skip", key="event.data.k"), concurrency=1)
    ask(turned, 1, 2, k="a")
    ask(turned, 3, k="b")
    turned.run_due()
    ask(turned, 4, k="a")
    turned.run_due()
    assert order == [[1], [3], [4]]


def test_replaced_runs_that_are_held_leave_the_line(turned: World) -> None:
    order = declared(turned, singleton=Singleton("cancel", key="event.data.k"), concurrency=1)
    ask(turned, 0, k="other")
    ask(turned, 1, k="a")
    ask(turned, 2, k="a")
    turned.run_due()
    assert order == [[0], [2]]
    assert turned.store_rows("SELECT run_id FROM flows_queue") == []


@pytest.mark.parametrize("kind", ["debounce", "batch", "throttle", "concurrency", "scheduled"])
def test_what_waits_at_any_limit_is_cancelled_by_hand(turned: World, kind: str) -> None:
    options: dict[str, Any] = {
        "debounce": {"debounce": Debounce("10s")},
        "batch": {"batch": Batch(10, "10s")},
        "throttle": {"throttle": Throttle(1, "10s")},
        "concurrency": {"concurrency": 1},
        "scheduled": {"concurrency": 1},
    }[kind]
    order = declared(turned, **options)
    if kind in ("throttle", "concurrency"):
        ask(turned, 0)
    if kind == "scheduled":
        turned.flows.send(Event(EVENT, {"n": 1}, ts=to_datetime(NEW_YEAR + 5_000_000)))
    else:
        ask(turned, 1)
    waiting = turned.runs()[-1]
    assert waiting.cancel()
    turned.advance("30s")
    assert waiting.status == Status.CANCELLED
    assert [1] not in order
    ask(turned, 2)
    turned.advance("30s")
    assert order[-1] == [2]


def test_a_rate_limited_start_takes_no_slot(turned: World) -> None:
    order = declared(turned, rate_limit=RateLimit(1, "10s"), concurrency=1)
    ask(turned, 1, 2)
    turned.run_due()
    turned.advance("10s")
    ask(turned, 3)
    turned.run_due()
    assert order == [[1], [3]]
