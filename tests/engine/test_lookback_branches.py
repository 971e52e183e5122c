"""A wait's default lookback where an async handler's branches run at once: each goes by its own step before."""

import asyncio
from typing import Any

import pytest

from tests.engine.shop import Shop, start
from tests.engine.world import World


@pytest.fixture
def shop(world: World) -> Shop:
    return Shop(world)


async def order(ctx: Any, id: str = "order") -> int | None:
    came = await ctx.step.wait_for_event(id, event="order/placed", timeout="1h")
    return came.data["n"] if came else None


def test_a_branchs_own_step_counts_though_another_branchs_began_later(shop: Shop) -> None:
    placed = asyncio.Event()

    async def place() -> None:
        shop.placed(1)
        placed.set()

    async def buyer(ctx: Any) -> Any:
        await ctx.step.run("place", place)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return await order(ctx)

    async def other(ctx: Any) -> None:
        await placed.wait()
        await ctx.step.run("other", shop.nothing)

    async def handler(ctx: Any) -> Any:
        bought, _ = await asyncio.gather(buyer(ctx), other(ctx))
        return bought

    start(shop, handler)
    shop.world.advance("2h")

    assert shop.world.only_run().output == 1


def test_a_branch_without_a_step_goes_by_the_one_before_the_branches(shop: Shop) -> None:
    async def handler(ctx: Any) -> Any:
        await ctx.step.run("place", shop.placed, 1)
        _, bought = await asyncio.gather(ctx.step.run("other", shop.nothing), order(ctx))
        return bought

    start(shop, handler)
    shop.world.advance("2h")

    assert shop.world.only_run().output == 1


@pytest.mark.parametrize("provoking", ["first", "second"])
def test_after_branches_what_any_of_their_steps_provoked_counts(shop: Shop, provoking: str) -> None:
    async def step(ctx: Any, id: str) -> None:
        await ctx.step.run(id, lambda: shop.placed(1) if id == provoking else shop.nothing())

    async def handler(ctx: Any) -> Any:
        await asyncio.gather(step(ctx, "first"), step(ctx, "second"))
        return await order(ctx)

    start(shop, handler)
    shop.world.advance("2h")

    assert shop.world.only_run().output == 1


def test_after_branches_what_came_before_the_first_of_them_does_not_count(shop: Shop) -> None:
    async def handler(ctx: Any) -> Any:
        await ctx.step.run("place", shop.placed, 1)
        await asyncio.gather(ctx.step.run("a", shop.nothing), ctx.step.run("b", shop.nothing))
        return await order(ctx)

    start(shop, handler)
    shop.placed(2)
    shop.world.drain()

    assert shop.world.only_run().output == 2


def test_branches_at_the_start_go_by_the_runs_own(shop: Shop) -> None:
    async def handler(ctx: Any) -> Any:
        await asyncio.gather(ctx.step.run("a", shop.placed, 1), ctx.step.run("b", shop.nothing))
        first = await order(ctx, "first")
        return [first, await order(ctx, "second")]

    start(shop, handler)
    shop.placed(2)
    shop.world.drain()

    assert shop.world.only_run().output == [1, 2]
