"""Promises of a turn whose run or branch ends between its claim and its look at what it remembers: what it still waited
for was closed with it, and that is not told to the handler as a time that is out."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from celery import signature

from celeryflows import RunHandle, Status, StepError
from celeryflows.engine.finish import cancel
from celeryflows.engine.turn import take_turn
from celeryflows.scheduler.sweeper import adopt_orphans
from tests.engine.test_task_answers import Post
from tests.engine.world import World

WAITS: dict[str, Callable[[Any], Any]] = {
    "event": lambda step: step.wait_for_event("open", event="order/refused", timeout="1h"),
    "signal": lambda step: step.wait_for_signal("open", "refused", timeout="1h"),
    "run": lambda step: step.invoke("open", "ships", timeout="1h"),
    "task": lambda step: step.task("open", signature("far.away"), timeout="1h"),
}


@pytest.fixture
def world(shared: World) -> World:
    """Tasks that are sent lie there, and the flow that is invoked sleeps."""
    shared.runtime.tasks = Post(shared)
    shared.flow(name="ships")(lambda ctx: ctx.step.sleep("nap", "2h"))
    return shared


class Both:
    """Waits for the first event and for something that does not come; `told` is what it heard of that."""

    def __init__(self, kind: str) -> None:
        self.told: list[object] = []
        self._wait = WAITS[kind]

    async def __call__(self, ctx: Any) -> None:
        first = ctx.step.wait_for_event("first", event="order/placed", timeout="1h")
        await asyncio.gather(first, self._other(ctx.step))

    async def _other(self, step: Any) -> None:
        try:
            self.told.append(await self._wait(step))
        except StepError as error:
            self.told.append(error)
        await step.run("refund", lambda: self.told.append("refunded"))


def taken(world: World, run: RunHandle, branch: str, meanwhile: Callable[[], object]) -> Status | None:
    """How a turn ends that is claimed before something happens, and reads its memos after."""
    happened: list[object] = []

    def observe(sql: str) -> None:
        if "LEFT JOIN flows_waits w" in sql and not happened:
            happened.append(True)
            meanwhile()

    world.store.observer = observe
    end = take_turn(world.runtime, run.id, branch=branch)
    world.store.observer = None
    assert happened
    return end.status


def standing(world: World) -> dict[str, str]:
    """How the waits stand, by step."""
    return dict(world.store_rows("SELECT key, state FROM flows_waits WHERE kind <> 'cancel'"))


@pytest.mark.parametrize("kind", WAITS)
def test_a_run_that_is_cancelled_is_not_told_that_the_time_of_its_waits_is_out(world: World, kind: str) -> None:
    both = Both(kind)
    world.flow(name="f", trigger="cart/opened")(both.__call__)
    world.send("cart/opened")
    (run,) = world.runs("f")
    world.flows.send("order/placed")

    ended = taken(world, run, "", lambda: cancel(world.runtime, run.id, "enough"))

    assert standing(world) == {"first": "answered", "open": "closed"}
    assert both.told == []
    assert (ended, run.status) == (Status.CANCELLED, Status.CANCELLED)


@pytest.mark.parametrize("kind", WAITS)
def test_a_branch_that_loses_its_race_is_not_told_that_the_time_of_its_waits_is_out(world: World, kind: str) -> None:
    both = Both(kind)

    @world.flow(name="f", trigger="cart/opened")
    async def f(ctx: Any) -> Any:
        async def wins() -> None:
            await ctx.step.wait_for_event("second", event="order/won", timeout="1h")

        return await ctx.group.race(lambda: both(ctx), wins)

    world.send("cart/opened")
    (run,) = world.runs("f")
    world.flows.send("order/placed")

    def other_wins() -> None:
        world.flows.send("order/won")
        assert take_turn(world.runtime, run.id, branch="group[1]").status is not None

    ended = taken(world, run, "group[0]", other_wins)

    assert standing(world)["group[0]/open"] == "closed"
    assert both.told == []
    assert ended == Status.CANCELLED
    world.drain()
    assert run.status == Status.COMPLETED


@pytest.mark.parametrize("kind", WAITS)
def test_a_turn_that_was_taken_over_is_not_told_that_the_time_of_its_waits_is_out(world: World, kind: str) -> None:
    told: list[object] = []

    @world.flow(name="f", trigger="cart/opened")
    def f(ctx: Any) -> None:
        def loses() -> None:
            ctx.step.wait_for_event("first", event="order/placed", timeout="1h")
            try:
                told.append(WAITS[kind](ctx.step))
            except StepError as error:
                told.append(error)

        ctx.group.race([lambda: ctx.step.wait_for_event("second", event="order/won", timeout="1h"), loses])

    world.send("cart/opened")
    (run,) = world.runs("f")
    world.flows.send("order/placed")

    def another_worker_waits_and_loses() -> None:
        assert adopt_orphans(world.runtime) == 1
        assert take_turn(world.runtime, run.id, branch="group[1]").status == Status.SUSPENDED
        world.send("order/won")

    ended = taken(world, run, "group[1]", another_worker_waits_and_loses)

    assert standing(world)["group[1]/open"] == "closed"
    assert told == []
    assert (ended, run.status) == (None, Status.COMPLETED)
