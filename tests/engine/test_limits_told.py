"""Who listens to `limit_reached` hears of all that a limit holds or skips, with the key's value, after the commit."""

from collections.abc import Iterator
from typing import Any

import pytest

from celeryflows import Concurrency, Event, RateLimit, Singleton, Throttle
from celeryflows.durations import to_datetime
from celeryflows.signals import LimitNews, limit_reached
from tests.engine.crowd import Crowd
from tests.engine.world import NEW_YEAR, World

EVENT = "job/asked"
USER = "event.data.user"


@pytest.fixture
def heard() -> Iterator[list[LimitNews]]:
    news: list[LimitNews] = []

    def on_limit(sender: str, limit: LimitNews) -> None:
        assert sender == limit.flow
        news.append(limit)

    with limit_reached.connected_to(on_limit):
        yield news


def declared(world: World, **options: Any) -> None:
    @world.flow(name="shop.job", trigger=EVENT, **options)
    def job(ctx: Any) -> None:
        ctx.step.sleep("nap", "1m")

    world.start_worker()


def told(heard: list[LimitNews]) -> list[tuple[str, str | None, str]]:
    return [(one.limit, one.key, one.effect) for one in heard]


@pytest.mark.parametrize(
    ("options", "news"),
    [
        ({"concurrency": 1}, ("concurrency", None, "held")),
        ({"concurrency": Concurrency(1, key=USER)}, ("concurrency", '"a"', "held")),
        ({"concurrency": [Concurrency(1, key=USER), Concurrency(5)]}, ("concurrency", '"a"', "held")),
        ({"rate_limit": RateLimit(1, "1m", key=USER)}, ("rate_limit", '"a"', "skipped")),
        ({"throttle": Throttle(1, "1m")}, ("throttle", None, "held")),
        ({"throttle": Throttle(1, "1m", key=USER)}, ("throttle", '"a"', "held")),
        ({"singleton": Singleton("skip", key=USER)}, ("singleton", '"a"', "skipped")),
        ({"idempotency": USER}, ("idempotency", '"a"', "skipped")),
    ],
)
def test_a_start_that_a_limit_holds_or_skips_is_told(
    turned: World, heard: list[LimitNews], options: dict[str, Any], news: tuple[str, str | None, str]
) -> None:
    declared(turned, **options)
    turned.flows.send([Event(EVENT, {"user": user}) for user in "aa"])
    assert told(heard) == [news]
    (one,) = heard
    assert one.run_id == turned.runs()[-1].id
    # Who is let in then is told of no more.
    turned.run_due()
    assert told(heard) == [news]


def test_a_run_that_comes_back_from_a_sleep_and_is_held_is_told(heard: list[LimitNews]) -> None:
    crowd = Crowd()
    declared(crowd, concurrency=Concurrency(1, key=USER))
    crowd.flows.send(Event(EVENT, {"user": "a"}))
    crowd.take()
    crowd.flows.send(Event(EVENT, {"user": "a"}))
    assert heard == []
    crowd.clock.turn(60_000_000)
    # The second has the slot, and its message is not taken yet.
    message = crowd.broker.waiting.popleft()
    crowd.run_due()
    assert told(heard) == [("concurrency", '"a"', "held")]
    assert (heard[0].run_id, heard[0].flow) == (crowd.runs()[0].id, "shop.job")
    crowd.broker.waiting.append(message)
    crowd.run_due()
    crowd.close()


def test_a_start_that_leaves_a_throttle_and_waits_at_a_gate_is_told_of_both(heard: list[LimitNews]) -> None:
    crowd = Crowd()
    declared(crowd, throttle=Throttle(1, "1s", key=USER), concurrency=1)
    crowd.flows.send([Event(EVENT, {"user": user}) for user in "aa"])
    crowd.broker.waiting.clear()
    crowd.clock.turn(1_000_000)
    crowd.run_due()
    assert told(heard) == [("throttle", '"a"', "held"), ("concurrency", None, "held")]
    crowd.close()


def test_a_scheduled_run_that_is_held_when_its_time_comes_is_told(turned: World, heard: list[LimitNews]) -> None:
    declared(turned, throttle=Throttle(1, "1h", key=USER))
    turned.flows.send([Event(EVENT, {"user": "a"}), Event(EVENT, {"user": "a"}, ts=to_datetime(NEW_YEAR + 5_000_000))])
    assert heard == []
    turned.advance("5s")
    assert told(heard) == [("throttle", '"a"', "held")]
