"""Promises of a wait's default lookback: arrivals since the step before it count, each once, and a loop misses none."""

from typing import Any

import pytest

from celeryflows.engine.resume import wake_due
from tests.engine.shop import Shop, start, wait
from tests.engine.world import World


@pytest.fixture
def shop(world: World) -> Shop:
    return Shop(world)


def test_the_webhook_that_the_step_before_provokes_is_found(shop: Shop) -> None:
    def handler(ctx: Any) -> Any:
        ctx.step.run("place", shop.placed, 1)
        return wait(ctx)

    start(shop, handler)

    assert shop.world.only_run().output == 1


def test_what_came_before_that_step_began_is_not(shop: Shop) -> None:
    def handler(ctx: Any) -> Any:
        ctx.step.run("first", shop.placed, 1)
        ctx.step.run("second", shop.nothing)
        return wait(ctx)

    start(shop, handler)
    shop.placed(2)
    shop.world.drain()

    assert shop.world.only_run().output == 2


def test_what_came_while_the_body_went_from_one_step_to_the_next_counts(shop: Shop) -> None:
    def handler(ctx: Any) -> Any:
        ctx.step.run("first", shop.nothing)
        if not shop.world.only_run().steps[1:]:
            shop.placed(1)
        ctx.step.run("second", shop.nothing)
        return wait(ctx)

    start(shop, handler)

    assert shop.world.only_run().output == 1


def test_without_an_earlier_step_it_counts_from_the_runs_start(shop: Shop) -> None:
    shop.placed(1)

    def handler(ctx: Any) -> Any:
        if not shop.world.only_run().steps:
            shop.placed(2)
        return wait(ctx)

    start(shop, handler)

    assert shop.world.only_run().output == 2


def test_what_came_while_the_run_was_queued_does_not_count(shop: Shop) -> None:
    shop.world.flow(name="f", trigger="cart/opened")(wait)
    shop.world.flows.send("cart/opened")
    shop.placed(1)

    shop.world.drain()

    assert shop.world.only_run().status == "suspended"


def test_it_reaches_over_a_sleep_before_the_wait(shop: Shop) -> None:
    def handler(ctx: Any) -> Any:
        ctx.step.sleep("settle", "3 days")
        return wait(ctx)

    start(shop, handler)
    shop.world.advance("1 day")
    shop.placed(1)
    shop.world.advance("2 days")

    assert shop.world.only_run().output == 1


def test_it_reaches_over_the_retries_of_the_step_before(shop: Shop) -> None:
    tries: list[int] = []

    def place() -> None:
        tries.append(1)
        if len(tries) == 1:
            shop.placed(1)
            raise RuntimeError("the reply was lost")

    def handler(ctx: Any) -> Any:
        ctx.step.run("place", place)
        return wait(ctx)

    start(shop, handler)
    shop.world.advance("1m")

    assert (shop.world.only_run().output, len(tries)) == (1, 2)


def test_a_loop_of_waits_takes_each_event_once_and_in_order(shop: Shop) -> None:
    def handler(ctx: Any) -> Any:
        return [wait(ctx, "next") for _ in range(6)]

    start(shop, handler)
    for n in (1, 2, 3):
        shop.placed(n)
    shop.world.drain()
    for n in (4, 5):
        shop.placed(n)
    shop.world.drain()
    shop.placed(6)
    shop.world.drain()

    assert shop.world.only_run().output == [1, 2, 3, 4, 5, 6]


def test_a_loop_of_waits_and_steps_that_provoke_the_next_misses_none(shop: Shop) -> None:
    def handler(ctx: Any) -> Any:
        found = []
        for n in range(4):
            ctx.step.run("place", shop.placed, n)
            found.append(wait(ctx, "next"))
        return found

    start(shop, handler)

    assert shop.world.only_run().output == [0, 1, 2, 3]


@pytest.mark.parametrize("steps", [0, 1])
def test_a_loop_that_works_on_each_event_misses_none_of_a_burst(shop: Shop, steps: int) -> None:
    def handler(ctx: Any) -> Any:
        found = []
        for _ in range(5):
            found.append(wait(ctx, "next"))
            for _ in range(steps):
                ctx.step.run("work", shop.nothing)
        return found

    start(shop, handler)
    for n in range(5):
        shop.placed(n)
    shop.world.drain()

    assert shop.world.only_run().output == [0, 1, 2, 3, 4]


def test_a_step_that_provokes_several_events_is_followed_by_as_many_waits(shop: Shop) -> None:
    def handler(ctx: Any) -> Any:
        ctx.step.run("place", lambda: [shop.placed(n) for n in (1, 2, 3)] and None)
        return [wait(ctx, "next") for _ in range(3)]

    start(shop, handler)

    assert shop.world.only_run().output == [1, 2, 3]


def test_what_came_after_a_timeout_and_before_its_turn_is_found_by_the_next_wait(shop: Shop) -> None:
    def handler(ctx: Any) -> Any:
        first = wait(ctx, "first", timeout="10s")
        ctx.step.run("between", shop.nothing)
        return [first, wait(ctx, "second")]

    start(shop, handler)
    shop.world.clock.turn(11_000_000)
    wake_due(shop.world.runtime)
    shop.placed(1)
    shop.world.drain()

    assert shop.world.only_run().output == [None, 1]
