"""A shop for tests of waits: orders are placed while carts are open, and time passes with each."""

from typing import Any

from tests.engine.world import World


class Shop:
    """A world in which time passes with each event, and in which a step may send from its own body."""

    def __init__(self, world: World) -> None:
        self.world = world

    def placed(self, n: int) -> None:
        """An order; the clock has gone on before and after it."""
        self.world.clock.turn(1_000)
        self.world.flows.send("order/placed", {"n": n})
        self.world.clock.turn(1_000)

    def nothing(self) -> None:
        """A step that takes its time."""
        self.world.clock.turn(1_000)


def wait(ctx: Any, id: str = "order", timeout: str = "1h", **more: Any) -> int | None:
    came = ctx.step.wait_for_event(id, event="order/placed", timeout=timeout, **more)
    return came.data["n"] if came else None


def start(shop: Shop, handler: Any, trigger: str = "cart/opened") -> None:
    shop.world.flow(name="f", trigger=trigger)(handler)
    shop.world.clock.turn(1_000)
    shop.world.send(trigger, {"n": 0})


def waiter(world: World, name: str = "waiter", trigger: str = "cart/opened", **wait: Any) -> None:
    """A flow that waits for `order/placed` and returns what came."""
    words = {"event": "order/placed", "timeout": "1h", **wait}

    @world.flow(name=name, trigger=trigger)
    def handler(ctx: Any) -> Any:
        came = ctx.step.wait_for_event("order", **words)
        return None if came is None else [came.name, came.data, came.id, came.v, came.ts.isoformat()]
