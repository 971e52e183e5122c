"""What a step provoked before its worker died is found by the wait behind it, though the step provokes it no more."""

from collections.abc import Callable
from typing import Any

import pytest

from celeryflows.scheduler.sweeper import adopt_orphans
from tests.engine.world import World

SECOND = 1_000_000


class Died(BaseException):
    """kill -9: nothing of the process runs any more."""


class Shop:
    """Its first charges provoke a webhook, and their worker dies; a later one provokes nothing: it has been done."""

    def __init__(self, world: World, deaths: int) -> None:
        self.world, self.deaths = world, deaths

    def charge(self) -> str:
        if self.deaths:
            self.deaths -= 1
            self.world.clock.turn(SECOND)
            if not self.deaths:
                self.world.flows.send("shop/paid", {"n": 1})
            raise Died
        return "charged"

    def recover(self) -> None:
        """The dead worker is found, its run goes on."""
        self.world.clock.turn(60 * SECOND)
        adopt_orphans(self.world.runtime)
        self.world.drain()

    def die(self, work: Callable[[], object]) -> None:
        with pytest.raises(Died):
            work()


def paid(ctx: Any) -> Any:
    return ctx.step.wait_for_event("paid", event="shop/paid", timeout="1h")


def one_after_the_other(shop: Shop) -> Callable[[Any], Any]:
    def handler(ctx: Any) -> Any:
        ctx.step.run("look", lambda: None)
        ctx.step.run("charge", shop.charge)
        return paid(ctx).data["n"]

    return handler


def at_once(shop: Shop) -> Callable[[Any], Any]:
    async def handler(ctx: Any) -> Any:
        await ctx.step.run("look", lambda: None)

        async def charge() -> str:
            return shop.charge()

        await ctx.step.run("charge", charge)
        return (await paid(ctx)).data["n"]

    return handler


def in_a_branch(shop: Shop) -> Callable[[Any], Any]:
    def branch(ctx: Any) -> Any:
        ctx.step.run("charge", shop.charge)
        return paid(ctx).data["n"]

    return lambda ctx: ctx.group.parallel([lambda: branch(ctx)])[0]


@pytest.mark.parametrize("deaths", [1, 2, 3])
@pytest.mark.parametrize("kind", [one_after_the_other, at_once, in_a_branch])
def test_a_webhook_of_a_lost_attempt_is_found(
    turned: World, kind: Callable[[Shop], Callable[[Any], Any]], deaths: int
) -> None:
    shop = Shop(turned, deaths)
    turned.flow(name="order", trigger="shop/ordered", retries=4)(kind(shop))
    shop.die(lambda: turned.send("shop/ordered"))
    for _ in range(deaths - 1):
        shop.die(shop.recover)
    shop.recover()
    assert turned.only_run().output == 1


def test_a_webhook_is_found_though_the_step_is_given_up(turned: World) -> None:
    shop = Shop(turned, 2)

    @turned.flow(name="order", trigger="shop/ordered", retries=0)
    def handler(ctx: Any) -> Any:
        try:
            ctx.step.run("charge", shop.charge)
        except Exception:
            return paid(ctx).data["n"]

    shop.die(lambda: turned.send("shop/ordered"))
    shop.die(shop.recover)
    shop.recover()
    assert turned.only_run().output == 1


def test_what_came_before_the_turn_that_was_lost_is_not(turned: World) -> None:
    shop = Shop(turned, 2)

    @turned.flow(name="order", trigger="shop/ordered")
    def handler(ctx: Any) -> Any:
        ctx.step.run("look", lambda: turned.flows.send("shop/paid", {"n": 0}))
        ctx.step.sleep("rest", "1h")
        ctx.step.run("charge", shop.charge)
        return paid(ctx).data["n"]

    turned.send("shop/ordered")
    shop.die(lambda: turned.advance("1h"))
    shop.die(shop.recover)
    shop.recover()
    assert turned.only_run().output == 1
