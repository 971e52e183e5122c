"""Idempotency: one run for each value of the key in a day."""

from typing import Any

from celeryflows import Event, RateLimit, Singleton, Status
from tests.engine.world import World, statuses

EVENT = "order/paid"
DONE, SKIPPED = Status.COMPLETED, Status.SKIPPED


def declared(world: World, **options: Any) -> Any:
    @world.flow(name="shop.ship", trigger=EVENT, idempotency="event.data.order", **options)
    def ship(ctx: Any) -> Any:
        return ctx.event.data.get("order")

    world.start_worker()
    return ship


def test_one_run_a_value_in_a_day(turned: World) -> None:
    declared(turned)
    for order in (1, 2, 1, 1):
        turned.send(EVENT, {"order": order})
    runs = turned.runs()
    assert statuses(runs) == [DONE, DONE, SKIPPED, SKIPPED]
    assert runs[3].reason == f"duplicate: idempotency key 1 has started run {runs[0].id}"
    turned.advance("23h")
    turned.send(EVENT, {"order": 1})
    turned.advance("1h")
    turned.send(EVENT, {"order": 1})
    assert statuses(turned.runs())[4:] == [SKIPPED, DONE]


def test_equal_values_are_one_and_null_is_none(turned: World) -> None:
    declared(turned)
    for order in (1, 1.0, "1", None, None):
        turned.send(EVENT, {"order": order})
    assert statuses(turned.runs()) == [DONE, SKIPPED, DONE, DONE, DONE]


def test_calls_count_and_a_list_of_events_too(turned: World) -> None:
    ship = declared(turned)
    ship.delay(order=1)
    turned.send([Event(EVENT, {"order": 1}), Event(EVENT, {"order": 2}), Event(EVENT, {"order": 2})])
    assert statuses(turned.runs()) == [DONE, SKIPPED, DONE, SKIPPED]


def test_a_value_counts_only_with_a_run(turned: World) -> None:
    declared(turned, rate_limit=RateLimit(1, "1m"))
    turned.send(EVENT, {"order": 1})
    turned.send(EVENT, {"order": 2})
    turned.advance("1m")
    turned.send(EVENT, {"order": 2})
    assert statuses(turned.runs()) == [DONE, SKIPPED, DONE]


def test_what_a_singleton_or_a_pause_skipped_may_come_again(turned: World) -> None:
    @turned.flow(name="shop.ship", trigger=EVENT, idempotency="event.data.order", singleton=Singleton("skip"))
    def ship(ctx: Any) -> None:
        ctx.step.sleep("work", "1m")

    turned.start_worker()
    turned.send(EVENT, {"order": 1})
    turned.send(EVENT, {"order": 2})
    turned.advance("1m")
    turned.flows.pause(ship)
    turned.send(EVENT, {"order": 2})
    turned.flows.resume(ship)
    turned.send(EVENT, {"order": 2})
    assert statuses(turned.runs()) == [DONE, SKIPPED, SKIPPED, Status.SUSPENDED]


def test_a_repeat_that_the_rate_limit_skips_first_says_so(turned: World) -> None:
    declared(turned, rate_limit=RateLimit(1, "1m"))
    turned.send(EVENT, {"order": 1})
    turned.send(EVENT, {"order": 1})
    assert "rate limit" in (turned.runs()[1].reason or "")
