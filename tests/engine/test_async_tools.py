"""What sync flows are promised of each step tool holds for async ones, on a store of each kind."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from celeryflows import CancelOn, Event, NonRetriableError, Status, StepError
from celeryflows.clock import TurnedClock
from celeryflows.durations import SECOND, to_datetime
from tests.engine.world import NEW_YEAR, World, error_of, store_at


@pytest.fixture
def turned(store_url: str) -> Iterator[World]:
    """A world with a turned clock on a store of each kind."""
    world = World(store_at(store_url, TurnedClock(NEW_YEAR)))
    yield world
    world.close()


def start(world: World, handler: Any, **options: Any) -> None:
    world.flow(name="f", trigger="go", **options)(handler)
    world.start_worker()
    world.send("go", {"id": 7})


def test_it_sleeps_until_a_moment_and_not_where_that_is_past(turned: World) -> None:
    async def flow(ctx: Any) -> str:
        await ctx.step.sleep_until("past", to_datetime(NEW_YEAR - SECOND))
        both = [ctx.step.sleep_until(f"at {n}", to_datetime(NEW_YEAR + n * 60 * SECOND)) for n in (1, 2)]
        await asyncio.gather(*both)
        return "awake"

    start(turned, flow)
    turned.advance("119s")
    assert turned.only_run().status == Status.SUSPENDED
    turned.advance("2s")

    assert turned.only_run().output == "awake"


def test_events_of_a_step_are_sent_once_over_replays(turned: World) -> None:
    async def flow(ctx: Any) -> Any:
        ids = await ctx.step.send_event("tell", [Event("x/told", {"n": n}) for n in range(2)])
        await ctx.step.sleep("nap", "1m")
        return ids

    start(turned, flow)
    turned.advance("2m")

    told = [event.id for event in turned.events() if event.name == "x/told"]
    assert turned.only_run().output == told
    assert len(told) == 2


def test_the_webhook_that_the_step_before_provokes_is_found_and_what_came_before_is_not(turned: World) -> None:
    def provoke(n: int) -> None:
        turned.clock.turn(1_000)
        turned.flows.send("x/came", {"n": n})
        turned.clock.turn(1_000)

    async def flow(ctx: Any) -> list[Any]:
        found = []
        await ctx.step.run("early", provoke, 0)
        await ctx.step.run("between", turned.tick)
        for n in (1, 2):
            await ctx.step.run("provoke", provoke, n)
            came = await ctx.step.wait_for_event("came", event="x/came", timeout="1m")
            found.append(came.data["n"])
        return found

    start(turned, flow)

    assert turned.only_run().output == [1, 2]


def test_steps_are_tried_again_by_their_own_counter_and_not_when_they_say_so(turned: World) -> None:
    calls: Counter[str] = Counter()

    async def shaky(id: str, error: Exception) -> str:
        calls[id] += 1
        if calls[id] < 3:
            raise error
        return id

    async def flow(ctx: Any) -> list[Any]:
        found = [await ctx.step.run("shaky", shaky, "shaky", ValueError("no"))]
        for id, error in (("final", NonRetriableError("never")), ("spent", ValueError("spent"))):
            try:
                await ctx.step.using(retries=1).run(id, shaky, id, error)
            except StepError as failed:
                found.append([failed.step_id, failed.message])
        return found

    start(turned, flow, retries=2)
    turned.advance("1m")

    assert turned.only_run().output == ["shaky", ["final", "never"], ["spent", "spent"]]
    assert calls == {"shaky": 3, "final": 1, "spent": 2}


def test_an_event_cancels_it_in_its_sleep_and_between_its_steps(turned: World) -> None:
    async def flow(ctx: Any) -> None:
        if ctx.event.data["id"] == 8:
            await ctx.step.run("own", lambda: turned.flows.send("x/stop", {"id": 8}))
            await ctx.step.run("never", calls.append, 1)
        await ctx.step.sleep("long", "1h")

    calls: list[int] = []
    start(turned, flow, cancel_on=CancelOn("x/stop", match="data.id"))
    turned.send("go", {"id": 8})
    turned.send("x/stop", {"id": 7})
    turned.advance("2h")

    assert [run.status for run in turned.runs()] == [Status.CANCELLED] * 2
    assert calls == []


def test_a_rerun_from_a_step_keeps_what_was_before_it(turned: World) -> None:
    calls: Counter[str] = Counter()

    async def count(id: str, value: Any) -> Any:
        turned.clock.turn(1_000)
        calls[id] += 1
        return value

    async def flow(ctx: Any) -> list[Any]:
        first = await asyncio.gather(*(ctx.step.run(f"before {n}", count, "before", n) for n in range(2)))
        return [*first, await ctx.step.run("after", count, "after", "as it was")]

    start(turned, flow)
    new = turned.only_run().rerun(from_step="after", input=["after", "edited"])
    turned.drain()

    assert new.output == [0, 1, "edited"]
    assert calls == {"before": 2, "after": 2}


def test_a_sleep_past_the_bound_fails_it(turned: World) -> None:
    async def flow(ctx: Any) -> None:
        await ctx.step.sleep("long", "367 days")

    start(turned, flow)

    assert "366 days" in error_of(turned.only_run()).message
