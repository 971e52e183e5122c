"""Promises of cron flows: when they fire, what the handler gets, jitter, and the days on which the clock changes."""

from typing import Any

import pytest

from celeryflows import OnCron, OnEvent
from celeryflows.durations import from_datetime, to_datetime
from celeryflows.model.cron import jittered
from tests.engine.timetable import at, cron, local
from tests.engine.world import NEW_YEAR, World, us


def test_a_cron_fires_at_each_of_its_times_and_not_at_its_start(world: World) -> None:
    fired = cron(world, "0 9 * * 1-5")

    world.advance("7 days")

    assert local(fired) == ["01 09:00", "02 09:00", "03 09:00", "04 09:00", "05 09:00"]


def test_it_fires_not_before_its_time_and_at_once_then(world: World) -> None:
    fired = cron(world, "0 9 * * *")

    world.turn_to(at("2024-01-01T09:00") - 1)
    assert fired == []
    world.turn_to(at("2024-01-01T09:00"))
    assert fired == [at("2024-01-01T09:00")]


def test_the_handler_gets_the_scheduled_moment(world: World) -> None:
    events: list[Any] = []
    world.flow(name="report", trigger=OnCron("0 9 * * *", tz="Europe/Paris"))(lambda ctx: events.append(ctx.event))
    world.start_worker()

    world.clock.set(at("2024-01-01T08:00:07"))
    world.run_due()

    (event,) = events
    assert (event.name, event.ts) == ("flows/cron.fired", to_datetime(at("2024-01-01T08:00")))
    assert {k: v for k, v in event.data.items() if k != "cron"} == {
        "scheduled_at": "2024-01-01T08:00:00+00:00",
        "fired_at": "2024-01-01T08:00:07+00:00",
    }
    assert event.data["cron"] == "0 9 * * *"


def test_its_event_is_one_of_our_own_and_its_run_lists_it(world: World) -> None:
    cron(world, "0 9 * * *")
    world.advance("10h")

    assert world.events() == []
    assert [event.name for event in world.events(own=True)] == ["flows/cron.fired"]
    assert [event.name for event in world.only_run().events] == ["flows/cron.fired"]


def test_a_flow_may_have_several_crons_and_events(world: World) -> None:
    seen: list[str] = []

    @world.flow(name="f", trigger=[OnCron("0 9 * * *"), OnEvent("a/b"), OnCron("30 9 * * *")])
    def f(ctx: Any) -> None:
        seen.append(ctx.event.data.get("cron", ctx.event.name))

    world.start_worker()
    world.send("a/b")
    world.advance("1 day")

    assert seen == ["a/b", "0 9 * * *", "30 9 * * *"]


def test_two_crons_at_the_same_minute_both_fire(world: World) -> None:
    first, second = cron(world, "0 9 * * *", name="a"), cron(world, "0 9 * * *", name="b")

    world.advance("1 day")

    assert first == second == [at("2024-01-01T09:00")]


def test_a_run_still_under_way_does_not_keep_the_next_from_firing(world: World) -> None:
    world.flow(name="slow", trigger=OnCron("0 * * * *"))(lambda ctx: ctx.step.sleep("nap", "90m"))
    world.start_worker()

    world.advance("2h30m")

    assert [run.status for run in world.runs()] == ["completed", "suspended"]


# --- jitter


def test_jitter_delays_the_start_below_its_bound_and_not_the_moment(world: World) -> None:
    started: list[int] = []
    moments: list[int] = []

    @world.flow(name="f", trigger=OnCron("0 * * * *", jitter="10m"))
    def f(ctx: Any) -> None:
        started.append(world.clock.now())
        moments.append(from_datetime(ctx.event.ts))

    world.start_worker()
    world.advance("1 day")

    delays = [start - moment for start, moment in zip(started, moments, strict=True)]
    assert moments == [NEW_YEAR + us("1h") * n for n in range(1, len(moments) + 1)]
    assert len(moments) >= 23
    assert all(0 <= delay < us("10m") for delay in delays)
    assert delays == [jittered("f", moment, us("10m")) for moment in moments]
    assert len(set(delays)) > 10


def test_a_run_in_its_jitter_is_scheduled_and_can_be_cancelled(world: World) -> None:
    fired = cron(world, "0 9 * * *", jitter="1h")
    world.turn_to(at("2024-01-01T09:00"))

    assert world.only_run().status == "scheduled"
    assert world.only_run().cancel() is True
    world.advance("2h")
    assert fired == []


# --- the two days on which each clock changes


@pytest.mark.parametrize(
    ("tz", "line", "day", "expected"),
    [
        ("Europe/Paris", "30 2 * * *", "2024-03-31", ["31 03:00"]),
        ("Europe/Paris", "0 3 * * *", "2024-03-31", ["31 03:00"]),
        ("Europe/Paris", "30 2 * * *", "2024-10-27", ["27 02:30"]),
        ("Europe/Paris", "*/30 1-3 * * *", "2024-03-31", ["31 01:00", "31 01:30", "31 03:00", "31 03:30"]),
        ("America/New_York", "15 2 * * *", "2024-03-10", ["10 03:00"]),
        ("America/New_York", "15 1 * * *", "2024-11-03", ["03 01:15"]),
        ("America/New_York", "0 9 * * *", "2024-03-10", ["10 09:00"]),
        ("America/New_York", "0 9 * * *", "2024-11-03", ["03 09:00"]),
    ],
)
def test_a_skipped_time_fires_after_the_gap_and_a_repeated_one_once(
    world: World, tz: str, line: str, day: str, expected: list[str]
) -> None:
    world.clock.set(at(f"{day}T00:00", tz) - us("1s"))
    fired = cron(world, line, tz=tz)

    world.turn_to(at(f"{day}T23:59", tz))

    assert local(fired, tz) == expected


@pytest.mark.parametrize(
    ("tz", "day", "hours"),
    [
        ("Europe/Paris", "2024-03-31", 23),
        ("Europe/Paris", "2024-10-27", 25),
        ("America/New_York", "2024-03-10", 23),
        ("America/New_York", "2024-11-03", 25),
    ],
)
def test_an_interval_goes_on_through_the_change(world: World, tz: str, day: str, hours: int) -> None:
    start = at(f"{day}T00:00", tz)
    world.clock.set(start - us("1s"))
    fired = cron(world, "*/30 * * * *", tz=tz)

    world.turn_to(at(f"{day}T23:59", tz))

    assert fired == [start + n * us("30m") for n in range(2 * hours)]
