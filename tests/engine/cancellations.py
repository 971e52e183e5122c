"""An order that sleeps for an hour and is cancelled by event, for tests of cancels."""

from typing import Any

from celeryflows import CancelOn, Event

BY_ID = CancelOn("order/cancelled", match="data.order_id")


def declare(world: Any, **options: Any) -> None:
    """The flow, in a worker."""

    @world.flow(**{"name": "order", "trigger": "order/placed", "cancel_on": BY_ID, **options})
    def order(ctx: Any) -> str:
        ctx.step.sleep("nap", "1h")
        return "shipped"

    world.start_worker()


def placed(n: int = 1) -> Event:
    """What starts it."""
    return Event("order/placed", {"order_id": n})


def cancelled(n: int = 1) -> Event:
    """What cancels it."""
    return Event("order/cancelled", {"order_id": n})
