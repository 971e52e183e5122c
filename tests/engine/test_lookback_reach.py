"""Promises of a wait's other lookbacks: how far each reaches, what is never taken twice, and where the look ends."""

from typing import Any

import pytest

from celeryflows import Event
from tests.engine.shop import Shop, start, wait
from tests.engine.world import World, error_of


@pytest.fixture
def shop(world: World) -> Shop:
    return Shop(world)


# --- "wait", "run" and a duration


@pytest.mark.parametrize(("lookback", "found"), [("step", 2), ("wait", 9), ("run", 1), ("1h", 0), ("2500us", 2)])
def test_each_lookback_reaches_as_far_back_as_it_says(shop: Shop, lookback: str, found: int) -> None:
    lookback = lookback.replace("2500us", "2.5ms")
    shop.placed(0)

    def handler(ctx: Any) -> Any:
        ctx.step.run("first", shop.placed, 1)
        ctx.step.run("second", shop.placed, 2)
        return wait(ctx, lookback=lookback)

    start(shop, handler)
    shop.placed(9)
    shop.world.drain()

    assert shop.world.only_run().output == found


@pytest.mark.parametrize("lookback", ["step", "run", "1h"])
def test_the_runs_own_trigger_never_answers_its_wait(shop: Shop, lookback: str) -> None:
    start(shop, lambda ctx: wait(ctx, lookback=lookback), trigger="order/placed")
    assert shop.world.only_run().status == "suspended"

    shop.world.tick()
    shop.world.send("order/placed", {"n": 5})

    assert shop.world.runs()[0].output == 5


@pytest.mark.parametrize("lookback", ["run", "1h"])
def test_an_event_that_an_earlier_wait_of_the_run_took_is_not_taken_again(shop: Shop, lookback: str) -> None:
    def handler(ctx: Any) -> Any:
        first = wait(ctx, "first")
        ctx.step.run("between", shop.nothing)
        return [first, wait(ctx, "second", lookback=lookback)]

    start(shop, handler)
    shop.placed(1)
    shop.world.drain()
    assert shop.world.only_run().status == "suspended"
    shop.placed(2)
    shop.world.drain()

    assert shop.world.only_run().output == [1, 2]


def test_what_another_run_took_is_there_for_this_one_too(shop: Shop) -> None:
    start(shop, wait)
    shop.placed(1)
    shop.world.drain()

    shop.world.flow(name="late", trigger="cart/seen")(lambda ctx: wait(ctx, lookback="1h"))
    shop.world.send("cart/seen")

    assert (shop.world.only_run("f").output, shop.world.only_run("late").output) == (1, 1)


def test_a_look_back_asks_match_and_condition_too(shop: Shop) -> None:
    def handler(ctx: Any) -> Any:
        ctx.step.run("first", lambda: [shop.placed(n) for n in (1, 2, 3)] and None)
        by_value = wait(ctx, "value", match="data.wanted.n", lookback="run")
        return [by_value, wait(ctx, "exp", if_exp="async.data.n > event.data.least", lookback="run")]

    shop.world.flow(name="f", trigger="cart/opened")(handler)
    shop.world.send("cart/opened", {"wanted": {"n": 2}, "least": 2})
    shop.world.advance("2h")

    assert shop.world.only_run().output == [None, 3]


def test_a_look_back_that_meets_an_unevaluable_event_goes_on_and_shows_why(shop: Shop) -> None:
    def handler(ctx: Any) -> Any:
        ctx.step.run("first", lambda: shop.world.flows.send("order/placed", {"n": "many"}) and None)
        ctx.step.run("second", shop.placed, 2)
        return wait(ctx, if_exp="async.data.n > 1", lookback="run")

    start(shop, handler)

    assert shop.world.only_run().output == 2
    assert shop.world.only_run().steps[-1].problem


# --- where the look ends


@pytest.mark.parametrize("words", [{}, {"match": "data.n"}, {"if_exp": "async.data.n == 5"}])
def test_a_match_is_found_among_however_many_events(world: World, words: dict[str, str]) -> None:
    def handler(ctx: Any) -> Any:
        ctx.step.sleep("settle", "3 days")
        return wait(ctx, **words)

    world.flow(name="f", trigger="cart/opened")(handler)
    world.send("cart/opened", {"n": 1_999})
    world.advance("1 day")
    world.flows.send([Event("order/placed", {"n": n}) for n in range(2_000)])
    world.advance("2 days")

    assert world.only_run().output == {"match": 1_999, "if_exp": 5}.get("".join(words), 0)


def test_more_events_than_the_bound_without_a_match_are_an_error_that_names_it(world: World) -> None:
    shop = Shop(world)

    def handler(ctx: Any) -> Any:
        ctx.step.run("many", lambda: world.flows.send([Event("order/placed", {"n": n}) for n in range(1_001)]) and None)
        return wait(ctx, if_exp="async.data.n == 1001")

    start(shop, handler)

    failure = error_of(world.only_run())
    assert failure.name == "BoundExceeded"
    assert "events 'order/placed' to look back over: at most 1,000, got 1,001" in failure.message
    assert "lookback='wait'" in failure.message
