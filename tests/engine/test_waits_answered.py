"""Promises of who is answered: many runs by one event, each by the first, none disturbed by another's condition."""

import asyncio
from typing import Any

import pytest

from celeryflows import Event
from celeryflows.durations import to_datetime
from tests.engine.shop import waiter
from tests.engine.world import NEW_YEAR, World, us


def test_one_event_answers_every_run_that_waits_for_it(world: World) -> None:
    waiter(world, match="data.user")
    world.send([Event("cart/opened", {"user": user}) for user in ("u1", "u1", "u2", "u1")])
    world.tick()

    world.send("order/placed", {"user": "u1"})

    assert len(world.runs(status="completed")) == 3
    assert len(world.runs(status="suspended")) == 1


def test_the_first_of_several_events_consumes_the_wait(world: World) -> None:
    waiter(world)
    world.send("cart/opened")
    world.tick()

    world.send([Event("order/placed", {"n": n}) for n in range(3)])
    world.send("order/placed", {"n": 3})

    assert world.only_run().output[1] == {"n": 0}


def test_a_wait_and_a_trigger_of_the_same_event_both_have_it(world: World) -> None:
    waiter(world)
    world.flow(name="starter", trigger="order/placed")(lambda ctx: ctx.event.data)
    world.send("cart/opened")
    world.tick()

    world.send("order/placed", {"n": 1})

    assert world.only_run("waiter").output[1] == world.only_run("starter").output == {"n": 1}


def test_a_moment_to_come_delays_runs_and_not_waits(world: World) -> None:
    waiter(world)
    world.send("cart/opened")
    world.tick()

    world.send("order/placed", ts=to_datetime(NEW_YEAR + us("10 days")))

    assert world.only_run().status == "completed"


def test_an_answered_wait_is_shown_with_its_event(world: World) -> None:
    waiter(world)
    world.send("cart/opened")
    world.tick()

    (event_id,) = world.send("order/placed")

    (step,) = world.only_run().steps
    assert (step.id, step.kind, step.wait, step.wait_name, step.event_id) == (
        "order",
        "wait",
        "answered",
        "order/placed",
        event_id,
    )


def test_a_cancelled_run_is_answered_by_nothing(world: World) -> None:
    waiter(world)
    world.send("cart/opened")
    world.only_run().cancel()
    world.tick()

    world.send("order/placed")

    assert world.only_run().status == "cancelled"
    assert [step.wait for step in world.only_run().steps] == ["closed"]


# --- conditions that cannot be judged


def test_a_stray_event_that_cannot_be_judged_leaves_the_wait_open_and_shows_why(world: World) -> None:
    waiter(world, if_exp="async.data.total > 100")
    world.send("cart/opened")
    world.tick()

    world.send("order/placed", {"total": "much"})
    (step,) = world.only_run().steps
    assert step.wait == "open"
    assert step.problem
    world.send("order/placed", {"total": 500})

    assert world.only_run().output[1] == {"total": 500}


def test_fifty_runs_with_unevaluable_conditions_do_not_disturb_the_51st(world: World) -> None:
    waiter(world, "broken", "broken/opened", if_exp="async.data.total > event.data.least")
    waiter(world, "good", "good/opened", if_exp="async.data.total > 100")
    world.send([Event("broken/opened", {"least": "much"})] * 50)
    world.send("good/opened")
    world.tick()

    world.send("order/placed", {"total": 500})

    assert world.only_run("good").output[1] == {"total": 500}
    broken = world.runs("broken")
    assert len([run for run in broken if run.status == "suspended" and run.steps[0].problem]) == 50


# --- several waits of one run


def test_waits_at_once_keep_their_own_timeouts(world: World) -> None:
    @world.flow(name="f", trigger="cart/opened")
    async def f(ctx: Any) -> Any:
        a, b, _ = await asyncio.gather(
            ctx.step.wait_for_event("a", event="a/came", timeout="1h"),
            ctx.step.wait_for_event("b", event="b/came", timeout="3h"),
            ctx.step.sleep("nap", "2h"),
        )
        return [a, b.data, world.clock.now() - NEW_YEAR]

    world.send("cart/opened")
    world.advance("2h30m")
    world.send("b/came", {"n": 1})

    assert world.only_run().output == [None, {"n": 1}, us("2h30m")]


@pytest.mark.parametrize("order", ["event first", "waits first"])
def test_one_event_answers_all_waits_of_a_run_that_match_it_whoever_was_first(world: World, order: str) -> None:
    def opened() -> None:
        if order == "event first":
            world.flows.send("order/placed", {"n": 1})

    @world.flow(name="f", trigger="cart/opened")
    async def f(ctx: Any) -> Any:
        await ctx.step.run("open", opened)
        found = await asyncio.gather(
            ctx.step.wait_for_event("a", event="order/placed", timeout="1h"),
            ctx.step.wait_for_event("b", event="order/placed", timeout="1h", if_exp="async.data.n == 1"),
        )
        return [came.data["n"] if came else None for came in found]

    world.send("cart/opened")
    world.tick()
    if order == "waits first":
        world.send("order/placed", {"n": 1})
    world.advance("2h")

    assert world.only_run().output == [1, 1]


def test_an_event_that_comes_while_the_runs_turn_goes_on_elsewhere_is_taken_in_that_turn(world: World) -> None:
    taken: list[int] = []

    @world.flow(name="f", trigger="cart/opened")
    async def f(ctx: Any) -> None:
        async def elsewhere() -> None:
            await ctx.step.sleep("nap", "1h")
            await ctx.step.run("place", lambda: world.flows.send("order/placed") and None)
            await ctx.step.sleep("another nap", "1h")

        async def waiting() -> None:
            await ctx.step.wait_for_event("order", event="order/placed", timeout="1 day")
            taken.append(world.clock.now())

        await asyncio.gather(elsewhere(), waiting())

    world.send("cart/opened")
    world.advance("3h")

    assert world.only_run().status == "completed"
    assert taken[0] == NEW_YEAR + us("1h")


def test_a_run_that_ended_waits_for_nothing_any_more(world: World) -> None:
    @world.flow(name="f", trigger="cart/opened")
    async def f(ctx: Any) -> str:
        order = asyncio.ensure_future(ctx.step.wait_for_event("order", event="order/placed", timeout="1 day"))
        nap = asyncio.ensure_future(ctx.step.sleep("nap", "1h"))
        await asyncio.wait({order, nap}, return_when=asyncio.FIRST_COMPLETED)
        order.cancel()
        return "slept"

    world.send("cart/opened")
    world.advance("2h")

    assert world.only_run().output == "slept"
    assert {step.id: step.wait for step in world.only_run().steps} == {"order": "closed", "nap": None}
