"""Limits of the whole, by key and by rate at once, where one key has a hundred times another's load: none starves."""

from collections.abc import Iterator
from typing import Any

import pytest

from celeryflows import Concurrency, Event, RateLimit
from celeryflows.scheduler.doorkeeper import fill_changed
from tests.engine.crowd import Crowd
from tests.engine.world import statuses

LOAD = {"a": 300, "b": 30, "c": 3}
WHOLE, EACH, RATE = 3, 2, 250


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    made = Crowd()
    yield made
    made.check()
    made.close()


def test_each_key_gets_its_turn_whatever_waits_before_it(crowd: Crowd) -> None:
    ended: list[str] = []

    @crowd.flow(
        name="ship",
        trigger="shop/ordered",
        concurrency=(Concurrency(EACH, key="event.data.user"), Concurrency(WHOLE)),
        rate_limit=RateLimit(RATE, "1 day", key="event.data.user"),
    )
    def ship(ctx: Any) -> Any:
        return ctx.step.run("pack", ended.append, ctx.event.data["user"])

    crowd.start_worker()
    for user, count in LOAD.items():
        # The one who has most comes first, and all of it at once.
        crowd.tick()
        crowd.flows.send([Event("shop/ordered", {"user": user}) for _ in range(count)])
    assert crowd.started() == WHOLE
    most = 0
    while crowd.started():
        most = max(most, crowd.started())
        # Who comes to a line later has a later time.
        crowd.tick()
        crowd.take()

    assert most == WHOLE
    assert {user: ended.count(user) for user in LOAD} == {"a": RATE, "b": 30, "c": 3}
    assert statuses(crowd.runs()).count("skipped") == LOAD["a"] - RATE
    # Round the keys: while all three wait, none is more than two starts ahead of its share.
    together = ended[: _last(ended, "c") + 1]
    assert len(together) <= len(LOAD) * 3 + WHOLE + EACH
    both = [user for user in ended[: _last(ended, "b") + 1] if user != "c"]
    shares = {user: both.count(user) for user in "ab"}
    assert abs(shares["a"] - shares["b"]) <= WHOLE + EACH


def _last(ended: list[str], user: str) -> int:
    return len(ended) - 1 - ended[::-1].index(user)


@pytest.mark.parametrize("newer", ["event.data.item", None, "[event.data.user, event.data.item]"])
def test_a_limit_that_is_counted_by_another_key_from_now_on_leaves_nobody_in_line(
    crowd: Crowd, newer: str | None
) -> None:
    def declare(process: Any, key: str | None) -> None:
        @process.flow(name="ship", trigger="shop/ordered", concurrency=Concurrency(1, key=key))
        def ship(ctx: Any) -> Any:
            return ctx.step.run("pack", lambda: ctx.event.data["user"])

        process.start_worker()

    events = [Event("shop/ordered", {"user": user, "item": item}) for user in "ab" for item in "xyz"]
    declare(crowd, "event.data.user")
    crowd.flows.send(events)
    assert (crowd.started(), crowd.held()) == (2, 4)
    crowd.take()
    later = crowd.process()
    declare(later, newer)
    later.flows.send(events)
    while crowd.started() or fill_changed(later.runtime):
        if crowd.started():
            crowd.take()

    assert statuses(crowd.runs()) == ["completed"] * 12
    assert (crowd.held(), crowd.in_slots()) == (0, 0)
