"""Following a store tells each thing that happens once, in order, whoever did it and however fast."""

from collections.abc import Iterator
from typing import Any

import pytest

from celeryflows import Event, NonRetriableError, OnCron
from celeryflows.clock import TurnedClock
from celeryflows.console.activity import About, Activity, News
from tests.engine.world import World, memory_store, store_at


@pytest.fixture
def world() -> Iterator[World]:
    world = World(memory_store(TurnedClock()))
    yield world
    world.close()


@pytest.fixture
def activity(world: World) -> Activity:
    return begun(world)


def begun(world: World) -> Activity:
    """A follower that has had its first look."""
    activity = Activity(world.runtime)
    assert activity.news() == []
    return activity


def told(news: list[News]) -> list[tuple[str, str]]:
    """What each piece is about, and its subject in a word."""
    return [(one.about.value, _subject(one)) for one in news]


def _subject(news: News) -> str:
    if news.event is not None:
        return news.event.name
    assert news.run is not None
    return f"{news.step.id} {news.step.standing}" if news.step is not None else news.run.status.value


def test_a_whole_run_between_two_looks_is_told_in_order(world, activity):
    @world.flow(name="ship", trigger="order/placed")
    def ship(ctx: Any) -> None:
        ctx.step.run("pack", int)
        ctx.step.run("send", int)

    world.send("order/placed")

    assert told(activity.news()) == [
        ("event", "order/placed"),
        ("start", "completed"),
        ("step", "pack done"),
        ("step", "send done"),
        ("end", "completed"),
    ]


def test_nothing_is_told_twice(world, activity):
    @world.flow(name="ship", trigger="order/placed")
    def ship(ctx: Any) -> None:
        ctx.step.run("pack", int)
        ctx.step.sleep("settle", "1h")

    world.send("order/placed")

    assert activity.news() != []
    assert activity.news() == []


def test_what_happened_before_the_first_look_is_not_told(world):
    @world.flow(name="ship", trigger="order/placed")
    def ship(ctx: Any) -> None:
        ctx.step.sleep("settle", "1h")

    world.send("order/placed")
    activity = begun(world)

    world.advance("1h")

    assert told(activity.news()) == [("step", "settle slept"), ("end", "completed")]


def test_sleeps_waits_and_attempts_are_told_as_they_change(world, activity):
    failures = iter([ValueError("once")])

    @world.flow(name="ship", trigger="order/placed")
    def ship(ctx: Any) -> None:
        ctx.step.run("try", lambda: next(failures, None) and _raise())
        ctx.step.sleep("settle", "1h")
        ctx.step.wait_for_event("paid", event="order/paid", timeout="1h")
        ctx.step.wait_for_event("sent", event="order/sent", timeout="1h")

    def _raise() -> None:
        raise ValueError("once")

    world.send("order/placed")
    assert told(activity.news())[-1] == ("step", "try retrying")
    world.advance("2s")
    assert told(activity.news()) == [("step", "try done"), ("step", "settle sleeping")]
    world.advance("1h")
    assert told(activity.news()) == [("step", "settle slept"), ("step", "paid waiting")]
    world.send("order/paid")
    assert ("step", "paid answered") in told(activity.news())
    world.advance("1h")
    assert told(activity.news()) == [("step", "sent timed out"), ("end", "completed")]


def test_a_failure_and_a_cancel_are_told_with_their_step(world, activity):
    @world.flow(name="bill", trigger="order/placed", retries=0)
    def bill(ctx: Any) -> None:
        ctx.step.run("charge", _declined)

    @world.flow(name="ship", trigger="order/placed")
    def ship(ctx: Any) -> None:
        ctx.step.sleep("settle", "1h")

    def _declined() -> None:
        raise NonRetriableError("declined")

    world.send("order/placed")
    news = activity.news()
    assert ("step", "charge failed") in told(news)
    assert ("end", "failed") in told(news)
    world.only_run("ship").cancel("a duplicate")

    (end,) = activity.news()
    assert end.run is not None
    assert (end.about, end.run.reason) == (About.END, "a duplicate")


def test_calls_and_crons_are_told_though_their_ids_tell_no_time(world):
    @world.flow(name="ship")
    def ship(ctx: Any) -> None: ...

    @world.flow(name="report", trigger=OnCron("* * * * *"))
    def report(ctx: Any) -> None: ...

    world.start_worker()
    activity = begun(world)
    ship.apply_async(task_id="0-chosen-by-a-caller")
    world.drain()
    assert told(activity.news()) == [("start", "completed"), ("end", "completed")]

    world.advance("1m")
    assert told(activity.news()) == [("start", "completed"), ("end", "completed")]


def test_a_follower_that_was_held_up_misses_nothing(world):
    @world.flow(name="report", trigger=OnCron("* * * * *"))
    def report(ctx: Any) -> None: ...

    world.start_worker()
    activity = begun(world)

    world.advance("10m")

    assert told(activity.news()).count(("end", "completed")) == 10


def test_a_scheduled_run_is_told_when_it_is_made_and_a_skipped_one_by_its_end(world, activity):
    @world.flow(name="ship", trigger="order/placed")
    def ship(ctx: Any) -> None: ...

    world.send([Event("order/placed", id="one"), Event("order/placed", id="one")])

    found = told(activity.news())
    assert found.count(("end", "skipped")) == 1
    assert found.count(("start", "completed")) == 1


def test_two_processes_and_any_store_are_followed(store_url):
    world = World(store_at(store_url))
    activity = begun(world)

    @world.flow(name="ship", trigger="order/placed")
    def ship(ctx: Any) -> int:
        return ctx.step.run("pack", int)

    world.send([Event("order/placed") for _ in range(20)])
    found = told(activity.news())
    world.close()

    assert found.count(("event", "order/placed")) == 20
    assert found.count(("step", "pack done")) == 20
    assert found.count(("end", "completed")) == 20
