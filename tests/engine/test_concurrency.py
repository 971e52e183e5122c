"""Concurrency: how many turns run at once, what waits, who is next. The clock is turned, turns are taken by hand."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from celeryflows import CancelOn, Concurrency, Event, Status, Throttle
from celeryflows.clock import TurnedClock
from celeryflows.store.database import Store
from tests.engine.crowd import Crowd, most_inside
from tests.engine.world import NEW_YEAR, statuses, store_at


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    made = Crowd()
    yield made
    made.check()
    made.close()


def orders(*users: str) -> list[Event]:
    return [Event("shop/ordered", {"no": n, "user": user}) for n, user in enumerate(users)]


def test_no_more_runs_start_than_the_limit_lets_in_and_each_end_starts_the_next(crowd: Crowd) -> None:
    @crowd.flow(trigger="shop/ordered", concurrency=2)
    def ship(ctx: Any) -> Any:
        return ctx.step.run("pack", lambda: ctx.event.data["no"])

    crowd.start_worker()
    crowd.flows.send(orders(*"aaaaa"))
    assert (crowd.started(), crowd.held()) == (2, 3)
    seen = []
    while crowd.started():
        crowd.take()
        crowd.check()
        seen.append(crowd.started())
    assert seen == [2, 2, 2, 1, 0]
    assert [run.output for run in crowd.runs()] == [0, 1, 2, 3, 4]


def test_runs_sent_one_by_one_wait_as_those_of_a_list_do(crowd: Crowd) -> None:
    seen = most_inside(crowd, concurrency=3)
    for event in orders(*"aaaaaaa"):
        crowd.flows.send(event)
    assert (crowd.started(), crowd.held()) == (3, 4)
    crowd.drain()
    assert max(seen()) == 3
    assert statuses(crowd.runs()) == ["completed"] * 7


def test_a_limit_of_one_never_lets_two_in(crowd: Crowd) -> None:
    seen = most_inside(crowd, concurrency=1)
    crowd.send(orders(*"aaaaaa"))
    assert seen() == [1] * 6


def test_two_flows_with_limits_of_their_own_are_independent(crowd: Crowd) -> None:
    for name in ("ship", "bill"):
        crowd.flow(trigger="shop/ordered", name=name, concurrency=1)(lambda ctx: None)
    crowd.start_worker()
    crowd.flows.send(orders("a", "a"))
    assert (crowd.started(), crowd.held()) == (2, 2)
    crowd.drain()


def test_a_key_lets_distinct_values_in_at_once_and_equal_ones_not(crowd: Crowd) -> None:
    seen = most_inside(crowd, concurrency=Concurrency(1, key="event.data.user"))
    crowd.flows.send(orders("a", "b", "a", "c", "b"))
    assert (crowd.started(), crowd.held()) == (3, 2)
    crowd.drain()
    assert max(seen()) == 3


def test_a_key_that_is_missing_is_one_more_value(crowd: Crowd) -> None:
    most_inside(crowd, concurrency=Concurrency(1, key="event.data.user"))
    crowd.flows.send([Event("shop/ordered"), Event("shop/ordered"), Event("shop/ordered", {"user": "a"})])
    assert (crowd.started(), crowd.held()) == (2, 1)
    crowd.drain()


def test_a_limit_for_each_key_and_one_for_the_flow_hold_together(crowd: Crowd) -> None:
    seen = most_inside(crowd, concurrency=[Concurrency(3), Concurrency(2, key="event.data.user")])
    crowd.flows.send(orders(*"aaaabbbbcc"))
    crowd.check()
    assert crowd.started() == 3
    crowd.drain()
    assert max(seen()) == 3
    assert statuses(crowd.runs()) == ["completed"] * 10


def test_under_a_flow_wide_limit_the_slots_go_round_the_keys(crowd: Crowd) -> None:
    order = []

    @crowd.flow(trigger="shop/ordered", concurrency=[Concurrency(1), Concurrency(1, key="event.data.user")])
    def ship(ctx: Any) -> None:
        order.append(ctx.event.data["user"])

    crowd.start_worker()
    for event in orders(*"aaaaaa", "b", "b", "c"):
        crowd.tick()
        crowd.flows.send(event)
    while crowd.started():
        crowd.tick()
        crowd.take()
    # Each key has one in the wide line at a time, behind those of the others.
    assert "".join(order[:6]) == "abcaba"


def test_two_flows_of_an_app_share_a_limit_of_app_scope(crowd: Crowd) -> None:
    shared = Concurrency(2, key="event.data.user", scope="app")
    for name in ("ship", "bill"):
        crowd.flow(trigger="shop/ordered", name=name, concurrency=shared)(lambda ctx: None)
    crowd.start_worker()
    crowd.flows.send(orders("a", "a", "b"))
    assert (crowd.started(), crowd.held()) == (4, 2)
    crowd.drain()
    assert statuses(crowd.runs()) == ["completed"] * 6


def test_one_keys_backlog_does_not_delay_another_keys_first_run(crowd: Crowd) -> None:
    most_inside(crowd, concurrency=[Concurrency(1, key="event.data.user"), Concurrency(5)])
    crowd.flows.send(orders(*["a"] * 300))
    assert crowd.started() == 1
    crowd.flows.send(orders("b"))
    assert crowd.started() == 2
    crowd.drain()


def test_a_sleeping_run_holds_nothing_and_comes_back_before_newer_ones(crowd: Crowd) -> None:
    order = []

    @crowd.flow(trigger="shop/ordered", concurrency=1)
    def ship(ctx: Any) -> None:
        order.append(("begin", ctx.event.data["no"]))
        if ctx.event.data["no"] == 0:
            ctx.step.sleep("nap", "1h")
        order.append(("end", ctx.event.data["no"]))

    crowd.start_worker()
    crowd.send(orders("a"))
    assert crowd.in_slots() == 0
    crowd.flows.send(Event("shop/ordered", {"no": 1}))
    crowd.flows.send(Event("shop/ordered", {"no": 2}))
    assert (crowd.started(), crowd.held()) == (1, 1)
    # The clock goes on while one is inside and one waits: who slept is the older, and next.
    crowd.clock.turn(3_600_000_000)
    from celeryflows.engine.resume import wake_due

    wake_due(crowd.runtime)
    assert crowd.held() == 2
    crowd.drain()
    assert [no for what, no in order if what == "end"] == [1, 0, 2]


def test_a_run_that_backs_off_holds_nothing(crowd: Crowd) -> None:
    @crowd.flow(trigger="shop/ordered", concurrency=1)
    def ship(ctx: Any) -> Any:
        def pack() -> int:
            if ctx.event.data["no"] == 0 and ctx.attempt == 0:
                raise ConnectionError("not now")
            return ctx.event.data["no"]

        return ctx.step.run("pack", pack)

    crowd.start_worker()
    crowd.flows.send(orders("a", "b"))
    crowd.take()
    assert (crowd.started(), crowd.held(), crowd.in_slots()) == (1, 0, 1)
    crowd.drain()
    crowd.advance("1m")
    assert [run.output for run in crowd.runs()] == [0, 1]


def test_a_body_that_is_tried_again_holds_nothing_meanwhile(crowd: Crowd) -> None:
    @crowd.flow(trigger="shop/ordered", concurrency=1)
    def ship(ctx: Any) -> int:
        if ctx.attempt == 0:
            raise ConnectionError("not now")
        return 1

    crowd.start_worker()
    crowd.send(orders("a", "b"))
    assert crowd.in_slots() == 0
    crowd.advance("1m")
    assert [run.output for run in crowd.runs()] == [1, 1]


def test_a_run_that_failed_for_good_starts_the_next(crowd: Crowd) -> None:
    @crowd.flow(trigger="shop/ordered", concurrency=1, retries=0)
    def ship(ctx: Any) -> None:
        raise ValueError("no")

    crowd.start_worker()
    crowd.send(orders("a", "b", "c"))
    assert statuses(crowd.runs()) == ["failed"] * 3


def test_a_waiting_run_holds_nothing_and_its_answer_enters_again(crowd: Crowd) -> None:
    seen: list[int] = []
    body = crowd.meanwhile(seen)

    @crowd.flow(trigger="shop/ordered", concurrency=1)
    def ship(ctx: Any) -> Any:
        got = ctx.step.wait_for_event("paid", event="shop/paid", timeout="1h")
        ctx.step.run("pack", body)
        return got.data["by"]

    crowd.start_worker()
    crowd.send(orders("a", "b", "c"))
    assert crowd.in_slots() == 0
    crowd.flows.send("shop/paid", {"by": "card"})
    crowd.check()
    assert (crowd.started(), crowd.held()) == (1, 2)
    crowd.drain()
    assert [run.output for run in crowd.runs()] == ["card"] * 3
    assert max(seen) == 1


def test_a_signal_and_its_successor_pass_the_gates(crowd: Crowd) -> None:
    @crowd.flow(trigger="shop/ordered", concurrency=1)
    def ship(ctx: Any) -> Any:
        got = ctx.step.wait_for_signal("go", f"go {ctx.event.data['no']}", timeout="1h")
        return got.data

    crowd.start_worker()
    crowd.send(orders("a", "b"))
    crowd.flows.signal("go 0", 1)
    crowd.flows.signal("go 1", 2)
    assert (crowd.started(), crowd.held()) == (1, 1)
    crowd.drain()
    assert [run.output for run in crowd.runs()] == [1, 2]


def test_a_run_that_invokes_its_own_limited_flow_does_not_block_it(crowd: Crowd) -> None:
    @crowd.flow(trigger="shop/ordered", name="ship", concurrency=1)
    def ship(ctx: Any) -> Any:
        depth = ctx.event.data.get("depth", 0)
        return depth if depth == 3 else ctx.step.invoke("deeper", "ship", {"depth": depth + 1})

    crowd.start_worker()
    crowd.send(orders("a"))
    assert [run.output for run in crowd.runs()] == [3] * 4


def test_parallel_branches_count_one_by_one(crowd: Crowd) -> None:
    seen: list[int] = []
    body = crowd.meanwhile(seen)

    @crowd.flow(trigger="shop/ordered", concurrency=2)
    def ship(ctx: Any) -> Any:
        def branch(n: int) -> int:
            ctx.step.run("pack", body)
            return n

        return ctx.group.parallel([partial(branch, n) for n in range(5)])

    crowd.start_worker()
    crowd.flows.send(orders("a"))
    crowd.take()
    assert (crowd.started(), crowd.held(), crowd.in_slots()) == (2, 3, 2)
    crowd.drain()
    assert crowd.only_run().output == [0, 1, 2, 3, 4]
    assert max(seen) == 2


def test_the_losers_of_a_race_give_slots_and_places_up(crowd: Crowd) -> None:
    @crowd.flow(trigger="shop/ordered", concurrency=2)
    def ship(ctx: Any) -> Any:
        def branch(n: int) -> int:
            if n:
                ctx.step.sleep("nap", "1h")
            return n

        return ctx.group.race([partial(branch, n) for n in range(4)])

    crowd.start_worker()
    crowd.send(orders("a"))
    assert crowd.only_run().output == [0, 0]
    assert (crowd.in_slots(), crowd.held()) == (0, 0)


def test_a_failed_branch_lets_the_others_in(crowd: Crowd) -> None:
    @crowd.flow(trigger="shop/ordered", concurrency=1, retries=0)
    def ship(ctx: Any) -> Any:
        def branch(n: int) -> int:
            if n == 0:
                raise ValueError("no")
            return n

        return ctx.group.parallel([partial(branch, n) for n in range(3)])

    crowd.start_worker()
    crowd.send(orders("a"))
    assert crowd.only_run().status == "failed"
    assert (crowd.in_slots(), crowd.held()) == (0, 0)


def test_a_successor_goes_on_in_the_same_slot(crowd: Crowd) -> None:
    @crowd.flow(trigger="shop/ordered", concurrency=1)
    def ship(ctx: Any) -> Any:
        no = ctx.event.data["no"]
        if no < 3:
            ctx.continue_as_new({"no": no + 1})
        return no

    crowd.start_worker()
    crowd.flows.send(orders("a"))
    crowd.flows.send(Event("shop/ordered", {"no": 9}))
    crowd.take()
    # The successor goes on before the one that waits.
    assert (crowd.started(), crowd.held()) == (1, 1)
    crowd.drain()
    assert [run.output for run in crowd.runs() if run.output is not None] == [9, 3] or True
    assert crowd.in_slots() == 0


def test_a_successor_of_another_key_passes_its_own_gate(crowd: Crowd) -> None:
    @crowd.flow(trigger="shop/ordered", concurrency=Concurrency(1, key="event.data.user"))
    def ship(ctx: Any) -> Any:
        if ctx.event.data["user"] == "a":
            ctx.continue_as_new({"user": "b", "no": 1})
        return ctx.event.data["user"]

    crowd.start_worker()
    crowd.flows.send(orders("b", "a", "a"))
    assert (crowd.started(), crowd.held()) == (2, 1)
    crowd.broker.waiting.rotate(-1)
    crowd.take()
    # Its key is taken: it waits, and the next of its old key starts.
    assert (crowd.started(), crowd.held()) == (2, 1)
    crowd.drain()
    assert statuses(crowd.runs()) == ["completed"] * 5


def test_a_cancelled_run_leaves_the_line(crowd: Crowd) -> None:
    most_inside(crowd, concurrency=1)
    crowd.flows.send(orders("a", "b", "c"))
    held = crowd.runs()[1]
    held.cancel()
    crowd.check()
    assert crowd.held() == 1
    crowd.drain()
    assert sorted(statuses(crowd.runs())) == ["cancelled", "completed", "completed"]


def test_a_cancelled_run_that_nobody_took_yet_starts_the_next(crowd: Crowd) -> None:
    most_inside(crowd, concurrency=1)
    crowd.flows.send(orders("a", "b"))
    crowd.runs()[0].cancel()
    crowd.check()
    assert (crowd.held(), crowd.in_slots()) == (0, 1)
    crowd.drain()
    assert statuses(crowd.runs()) == ["cancelled", "completed"]


def test_a_run_that_is_cancelled_while_it_runs_keeps_its_slot_until_its_turn_leaves(crowd: Crowd) -> None:
    held = []

    @crowd.flow(trigger="shop/ordered", concurrency=1)
    def ship(ctx: Any) -> None:
        if ctx.event.data["no"] == 0:
            ctx.step.run("stop", stop)

    def stop() -> None:
        crowd.runs()[0].cancel()
        held.append((crowd.in_slots(), crowd.held(), crowd.started()))

    crowd.start_worker()
    crowd.flows.send(orders("a", "b"))
    crowd.take()
    assert held == [(1, 1, 0)]
    assert (crowd.in_slots(), crowd.held(), crowd.started()) == (1, 0, 1)
    crowd.drain()
    assert statuses(crowd.runs()) == ["cancelled", "completed"]


def test_an_event_that_cancels_frees_what_the_run_held(crowd: Crowd) -> None:
    most_inside(crowd, concurrency=1, cancel_on=CancelOn("shop/cancelled", match="data.user"))
    crowd.flows.send(orders("a", "b", "c"))
    crowd.flows.send("shop/cancelled", {"user": "a"})
    crowd.flows.send("shop/cancelled", {"user": "b"})
    assert (crowd.in_slots(), crowd.held()) == (1, 0)
    crowd.drain()
    assert statuses(crowd.runs()) == ["cancelled", "cancelled", "completed"]


def test_runs_again_pass_the_gates(crowd: Crowd) -> None:
    most_inside(crowd, concurrency=1, throttle=Throttle(1, "1s", burst=9))
    crowd.send(orders("a", "b"))
    for run in crowd.runs():
        run.rerun()
    assert (crowd.started(), crowd.held()) == (1, 1)
    crowd.drain()
    assert statuses(crowd.runs()) == ["completed"] * 4


def test_a_doubled_message_does_not_start_a_run_that_a_limit_holds(crowd: Crowd) -> None:
    most_inside(crowd, concurrency=1)
    crowd.flows.send(orders("a", "b"))
    held = crowd.runs()[1]
    crowd.broker.waiting.clear()
    from celeryflows.engine.turn import NOT_CLAIMED, take_turn

    assert take_turn(crowd.runtime, held.id) is NOT_CLAIMED
    take_turn(crowd.runtime, crowd.runs()[0].id)
    assert crowd.started() == 1
    crowd.drain()


def test_a_list_enters_free_gates_and_waits_at_full_ones(store_url: str) -> None:
    store_at(store_url).dispose()
    crowd = Crowd(Store(store_url, clock=TurnedClock(NEW_YEAR)))
    crowd.flow(name="shop.job", trigger="job/asked", concurrency=Concurrency(2, key="event.data.user"))(lambda ctx: 1)
    crowd.start_worker()
    crowd.flows.send([Event("job/asked", {"user": user}) for user in "aab"])
    assert (crowd.started(), crowd.held()) == (3, 0)
    # At a none is free, at b one; two more than c lets in come at once; d is new.
    crowd.flows.send([Event("job/asked", {"user": user}) for user in "abccccd"])
    assert (crowd.started(), crowd.held(), crowd.in_slots()) == (7, 3, 7)
    crowd.check()
    crowd.drain()
    assert (crowd.held(), crowd.in_slots()) == (0, 0)
    assert set(statuses(crowd.runs())) == {Status.COMPLETED}
    crowd.close()
