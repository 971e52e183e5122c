"""Promises of an event's moment: one to come delays the run and not the event, one that is past delays nothing."""

from datetime import datetime, timedelta
from typing import Any

from celeryflows import Event, Status
from celeryflows.durations import to_datetime
from tests.engine.world import World, statuses


def test_a_moment_to_come_stores_the_event_now_and_starts_the_run_then(world: World) -> None:
    seen: list[tuple[int, datetime]] = []
    world.flow(name="taker", trigger="a/b")(lambda ctx: seen.append((world.clock.now(), ctx.event.ts)))
    due = world.clock.now() + 3_600_000_000

    world.send("a/b", ts=to_datetime(due))

    assert world.events()[0].arrived_at == world.clock.now()
    assert world.only_run().status == "scheduled"
    world.turn_to(due - 1)
    assert seen == []
    world.turn_to(due)
    assert seen == [(due, to_datetime(due))]


def test_a_moment_that_is_past_starts_the_run_at_once(world: World) -> None:
    seen: list[Any] = []
    world.flow(name="taker", trigger="a/b")(lambda ctx: seen.append(ctx.event.ts))
    past = to_datetime(world.clock.now()) - timedelta(days=400)

    world.send("a/b", ts=past)

    assert seen == [past]


def test_a_scheduled_run_that_is_cancelled_never_starts(world: World) -> None:
    seen: list[str] = []
    world.flow(name="taker", trigger="a/b")(lambda ctx: seen.append(ctx.run_id))
    world.send("a/b", ts=to_datetime(world.clock.now()) + timedelta(hours=1))

    assert world.only_run().cancel("no more") is True
    world.advance("2h")

    assert seen == []
    assert (world.only_run().status, world.only_run().reason) == ("cancelled", "no more")


def test_runs_to_come_start_in_the_order_of_their_moments(world: World) -> None:
    seen: list[int] = []
    world.flow(name="taker", trigger="a/b")(lambda ctx: seen.append(ctx.event.data["n"]))
    now = to_datetime(world.clock.now())

    world.send([Event("a/b", {"n": n}, ts=now + timedelta(minutes=n)) for n in (5, 1, 4, 2, 3)])
    world.advance("10m")

    assert seen == [1, 2, 3, 4, 5]


def test_a_repeat_of_an_event_to_come_is_skipped_at_once(world: World) -> None:
    world.flow(name="taker", trigger="a/b")(lambda ctx: None)
    later = to_datetime(world.clock.now()) + timedelta(hours=1)

    world.send([Event("a/b", id="e1", ts=later), Event("a/b", id="e1")])

    assert statuses(world.runs()) == [Status.SCHEDULED, Status.SKIPPED]
