"""What a step provoked before its worker died is found by the wait behind it, though the step provokes it no more."""

from collections.abc import Callable
from typing import Any

import pytest

from celeryflows.scheduler.sweeper import NoBroker, adopt_orphans
from celeryflows.scheduler.tick import Scheduler
from celeryflows.store.workers import WorkerRow
from tests.engine.world import World

SECOND = 1_000_000


class Died(BaseException):
    """kill -9: nothing of the process runs any more."""


class Shop:
    """Its first charges provoke a webhook, and their worker dies; a later one provokes nothing: it has been done.

    `cold`: it is no death but a cold shutdown, which hands back what it cuts off."""

    def __init__(self, world: World, deaths: int, *, cold: bool = False) -> None:
        self.world, self.deaths, self.cold = world, deaths, cold

    def charge(self) -> str:
        if self.deaths:
            self.deaths -= 1
            self.world.clock.turn(SECOND)
            if not self.deaths:
                self.world.flows.send("shop/paid", {"n": 1})
            raise Died
        return "charged"

    def recover(self) -> None:
        """The dead worker is found, or leaves; its run goes on."""
        self.world.clock.turn(60 * SECOND)
        if self.cold:
            self.leave()
        else:
            adopt_orphans(self.world.runtime)
        self.world.drain()

    def leave(self) -> None:
        runtime = self.world.runtime
        row = WorkerRow(runtime.worker, "shop", self.world.release(), "host", 1, "prefork", "celery")
        Scheduler(runtime, NoBroker(), row).stop()

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


def in_a_later_branch(shop: Shop) -> Callable[[Any], Any]:
    """The delivery that opens the group claims it for its turn, before that begins."""

    def branch(ctx: Any) -> Any:
        ctx.step.run("charge", shop.charge)
        return paid(ctx).data["n"]

    return lambda ctx: ctx.group.parallel([lambda: None, lambda: branch(ctx)])[1]


@pytest.mark.parametrize("cold", [False, True], ids=["lost", "cut off"])
@pytest.mark.parametrize("deaths", [1, 2, 3])
@pytest.mark.parametrize("kind", [one_after_the_other, at_once, in_a_branch, in_a_later_branch])
def test_a_webhook_of_a_lost_attempt_is_found(
    turned: World, kind: Callable[[Shop], Callable[[Any], Any]], deaths: int, cold: bool
) -> None:
    shop = Shop(turned, deaths, cold=cold)
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


@pytest.mark.parametrize("cold", [False, True], ids=["lost", "cut off"])
def test_what_came_before_the_turn_that_was_lost_is_not(turned: World, cold: bool) -> None:
    shop = Shop(turned, 2, cold=cold)

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
