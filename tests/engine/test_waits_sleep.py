"""Promises of sleeps: no worker held, never too early, counted from the first time, bounds with their messages."""

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest

from celeryflows import Event
from celeryflows.durations import to_datetime
from celeryflows.store.runs import Runs
from celeryflows.store.steps import Steps
from tests.engine.world import NEW_YEAR, World, error_of, us

SECOND = 1_000_000


def sleeper(world: World, duration: Any) -> list[int]:
    """A flow that sleeps; when its body came out of the sleep."""
    woke: list[int] = []

    @world.flow(name="sleeper", trigger="a/b")
    def handler(ctx: Any) -> None:
        ctx.step.sleep("nap", duration)
        woke.append(world.clock.now())

    world.send("a/b")
    return woke


def test_a_sleep_holds_no_worker_and_no_message(world: World) -> None:
    sleeper(world, "3 days")

    with world.store.connection() as connection:
        assert connection.runs.of_worker(world.runtime.worker) == []
    assert list(world.broker.waiting) == []
    assert world.only_run().status == "suspended"


@pytest.mark.parametrize("duration", ["3 days", "1ms", "1h30m", timedelta(days=366), timedelta(microseconds=1500)])
def test_a_sleep_ends_not_before_its_time_and_no_second_after(world: World, duration: Any) -> None:
    woke = sleeper(world, duration)
    due = NEW_YEAR + us(duration)

    world.turn_to(due - 1)
    assert woke == []
    world.turn_to(due + SECOND)
    assert len(woke) == 1
    assert due <= woke[0] < due + SECOND


@pytest.mark.parametrize("verb", ["runs.claim", "steps.record"])
def test_a_reply_that_is_long_on_its_way_makes_no_sleep_end_too_early(
    world: World, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    owner, name = {"runs.claim": (Runs, "claim"), "steps.record": (Steps, "record")}[verb]
    ask = getattr(owner, name)

    def late(*args: Any, **options: Any) -> Any:
        answer = ask(*args, **options)
        world.clock.turn(5 * SECOND)
        return answer

    reached: list[int] = []

    @world.flow(name="sleeper", trigger="a/b")
    def handler(ctx: Any) -> None:
        if owner is Steps:
            ctx.step.run("a step", lambda: 1)
        reached.append(world.clock.now())
        ctx.step.sleep("nap", "10s")

    monkeypatch.setattr(owner, name, late)
    world.send("a/b")
    with world.store.connection() as connection:
        assert connection.runs.next_wake() == reached[0] + 10 * SECOND


def test_branches_that_are_carried_sleep_from_when_they_begin(world: World) -> None:
    reached: list[int] = []

    def branch(ctx: Any) -> None:
        reached.append(world.clock.now())
        ctx.step.sleep("nap", "10s")

    @world.flow(name="group", trigger="a/b")
    def handler(ctx: Any) -> None:
        world.clock.turn(5 * SECOND)
        ctx.group.parallel([partial(branch, ctx)] * 2)

    world.send("a/b")
    with world.store.connection() as connection:
        (first, second) = connection.execute("SELECT wake_at FROM flows_branches ORDER BY path")
    assert [first[0], second[0]] == [moment + 10 * SECOND for moment in reached]


@pytest.mark.parametrize(
    ("duration", "error", "reason"),
    [
        ("367 days", "BoundExceeded", "sleep 'nap' in seconds: at most 31,622,400"),
        (timedelta(days=366, microseconds=1), "BoundExceeded", "sleep 'nap'"),
        ("0s", "InvalidDuration", "sleep 'nap': '0s' is too short. Give at least 1 ms"),
        (timedelta(microseconds=999), "InvalidDuration", "too short"),
        ("-1s", "InvalidDuration", "sleep 'nap'"),
        (30, "InvalidDuration", "sleep 'nap'"),
        (1.5, "InvalidDuration", "sleep 'nap'"),
        ("30", "InvalidDuration", "sleep 'nap'"),
        ("soon", "InvalidDuration", "sleep 'nap'"),
        (None, "InvalidDuration", "sleep 'nap'"),
    ],
)
def test_a_bad_duration_fails_the_run_at_once_with_the_remedy(
    world: World, duration: Any, error: str, reason: str
) -> None:
    sleeper(world, duration)

    failure = error_of(world.only_run())
    assert (failure.name, reason in failure.message) == (error, True), failure.message


def test_the_longest_sleep_is_a_setting(world: World) -> None:
    short = world.process(max_wait="1h")
    short.flow(name="f", trigger="a/b")(lambda ctx: ctx.step.sleep("nap", "61m"))

    short.send("a/b")

    assert "at most 3,600, got 3,660" in error_of(world.only_run()).message


def test_a_sleep_counts_from_the_first_time_and_not_from_each_replay(world: World) -> None:
    @world.flow(name="f", trigger="a/b")
    async def f(ctx: Any) -> int:
        await asyncio.gather(ctx.step.sleep("short", "1h"), ctx.step.sleep("long", "2h"))
        return world.clock.now() - NEW_YEAR

    world.send("a/b")
    world.advance("3h")

    assert world.only_run().output == us("2h")


def test_sleeps_in_a_row_and_in_a_loop_follow_each_other(world: World) -> None:
    @world.flow(name="f", trigger="a/b")
    def f(ctx: Any) -> int:
        for _ in range(3):
            ctx.step.sleep("nap", "1h")
        ctx.step.sleep("last", "30m")
        return world.clock.now() - NEW_YEAR

    world.send("a/b")
    world.advance("1 day")

    assert world.only_run().output == us("3h30m")
    assert [step.id for step in world.only_run().steps] == ["nap", "nap:1", "nap:2", "last"]


@pytest.mark.parametrize("late", ["1s", "3 days"])
def test_a_sleeper_whose_workers_were_away_wakes_when_they_are_back(world: World, late: str) -> None:
    woke = sleeper(world, "1h")

    world.clock.turn(us("1h") + us(late))
    world.run_due()

    assert woke == [NEW_YEAR + us("1h") + us(late)]


def test_another_process_wakes_the_sleeper(world: World) -> None:
    def handler(ctx: Any) -> str:
        ctx.step.sleep("nap", "1h")
        return "woke"

    first, second = world.process(), world.process()
    first.flow(name="f", trigger="a/b")(handler)
    second.flow(name="f", trigger="a/b")(handler)

    first.send("a/b")
    world.clock.turn(us("1h"))
    second.run_due()

    assert world.only_run().output == "woke"


# --- until a moment


def until(world: World, when: Any) -> list[int]:
    woke: list[int] = []

    @world.flow(name="until", trigger="a/b")
    def handler(ctx: Any) -> None:
        ctx.step.sleep_until("nap", when)
        woke.append(world.clock.now())

    world.send("a/b")
    return woke


NOON = NEW_YEAR + us("12h")


@pytest.mark.parametrize(
    "when",
    [
        to_datetime(NOON),
        to_datetime(NOON).astimezone(timezone(timedelta(hours=-5))),
        "2024-01-01T12:00:00Z",
        "2024-01-01T13:00:00+01:00",
    ],
)
def test_a_moment_is_an_aware_datetime_or_iso_text_with_a_zone(world: World, when: Any) -> None:
    woke = until(world, when)

    world.turn_to(NOON - 1)
    assert woke == []
    world.turn_to(NOON)
    assert woke == [NOON]


@pytest.mark.parametrize("when", [to_datetime(NEW_YEAR), to_datetime(NEW_YEAR - 1), datetime(1970, 1, 1, tzinfo=UTC)])
def test_a_moment_that_is_past_returns_at_once_without_a_turn(world: World, when: datetime) -> None:
    assert until(world, when) == [NEW_YEAR]

    assert world.only_run().status == "completed"


@pytest.mark.parametrize(
    ("when", "error", "reason"),
    [
        (datetime(2024, 1, 2), "InvalidDuration", "sleep_until 'nap'"),
        ("2024-01-02T00:00:00", "InvalidDuration", "sleep_until 'nap'"),
        ("tomorrow", "InvalidDuration", "cannot read 'tomorrow'"),
        (1_704_153_600, "InvalidDuration", "is no moment"),
        (timedelta(days=1), "InvalidDuration", "is no moment"),
        (to_datetime(NEW_YEAR + us("366d") + 1), "BoundExceeded", "sleep"),
    ],
)
def test_a_bad_moment_fails_the_run_at_once_with_the_remedy(world: World, when: Any, error: str, reason: str) -> None:
    until(world, when)

    failure = error_of(world.only_run())
    assert (failure.name, reason in failure.message) == (error, True), failure.message


def test_a_moment_computed_anew_at_each_replay_holds_as_it_was_first(world: World) -> None:
    @world.flow(name="f", trigger="a/b")
    def f(ctx: Any) -> int:
        ctx.step.sleep_until("nap", to_datetime(world.clock.now() + us("1h")))
        return world.clock.now() - NEW_YEAR

    world.send("a/b")
    world.advance("1 day")

    assert world.only_run().output == us("1h")


def test_a_sleeper_that_is_cancelled_never_wakes(world: World) -> None:
    woke = sleeper(world, "1h")

    assert world.only_run().cancel() is True
    world.advance("2h")

    assert woke == []
    assert world.only_run().status == "cancelled"


def test_many_sleepers_wake_in_the_order_of_their_times(world: World) -> None:
    woke: list[int] = []

    @world.flow(name="f", trigger="a/b")
    def f(ctx: Any) -> None:
        ctx.step.sleep("nap", f"{ctx.event.data['minutes']}m")
        woke.append(ctx.event.data["minutes"])

    world.send([Event("a/b", {"minutes": n}) for n in (50, 10, 40, 20, 30)])
    world.advance("1h")

    assert woke == [10, 20, 30, 40, 50]
