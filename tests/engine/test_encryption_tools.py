"""Encrypted payloads through each step tool: what it keeps is read back, and nothing of it stands in the store."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, text

from celeryflows import Event, InvokeError, NonRetriableError, Status, StepError
from celeryflows.clock import TurnedClock
from tests.engine.sealed import NEW, OLD, SECRET, raw, use
from tests.engine.world import NEW_YEAR, World, error_of, store_at


@pytest.fixture(params=["plain", "sealed"])
def sealed(request: pytest.FixtureRequest, store_url: str) -> Iterator[World]:
    """A world on a store of each kind that keeps no secret; and one without keys, where the search has to find it."""
    world = World(store_at(store_url, TurnedClock(NEW_YEAR)))
    if request.param == "sealed":
        use(world, OLD)
    yield world
    found = SECRET in raw(world)
    world.close()
    assert found == (request.param == "plain")


def start(world: World, handler: Any, **data: Any) -> None:
    world.flow(name="f", trigger="go", retries=1)(handler)
    world.start_worker()
    world.send("go", {"card": SECRET, **data})


def refuse(card: str) -> None:
    raise NonRetriableError(f"refused {card}")


def test_a_transactions_value_and_error(sealed: World) -> None:
    def answer(connection: Connection, card: str) -> str:
        connection.execute(text("SELECT 1"))
        return card

    def fails(connection: Connection, card: str) -> None:
        refuse(card)

    def flow(ctx: Any) -> list[str]:
        card = ctx.step.transaction("answer", answer, ctx.event.data["card"])
        ctx.step.sleep("nap", "1s")
        try:
            ctx.step.transaction("fails", fails, card)
        except StepError as error:
            return [card, error.message]
        return []

    start(sealed, flow)
    sealed.advance("1s")

    assert sealed.only_run().output == [SECRET, f"refused {SECRET}"]


def test_an_invoked_runs_data_value_and_error(sealed: World) -> None:
    @sealed.flow(name="child", retries=0)
    def child(ctx: Any) -> str:
        ctx.step.sleep("nap", "1s")
        if ctx.event.data.get("fails"):
            refuse(ctx.event.data["card"])
        return str(ctx.event.data["card"])

    def flow(ctx: Any) -> list[str]:
        card = ctx.step.invoke("child", "child", {"card": ctx.event.data["card"]})
        try:
            ctx.step.invoke("fails", "child", {"card": card, "fails": True})
        except InvokeError as error:
            return [card, error.message]
        return []

    start(sealed, flow)
    sealed.advance("3s")

    assert sealed.only_run("f").output == [SECRET, f"refused {SECRET}"]
    assert error_of(sealed.runs("child")[1]).message == f"refused {SECRET}"


def test_a_signals_data(sealed: World) -> None:
    def flow(ctx: Any) -> Any:
        came = ctx.step.wait_for_signal("approval", "go/on", timeout="1h")
        ctx.step.sleep("nap", "1s")
        return came.data

    start(sealed, flow)
    assert sealed.flows.signal("go/on", {"card": SECRET}) == sealed.only_run().id
    sealed.drain()
    sealed.advance("1s")

    assert sealed.only_run().output == {"card": SECRET}


def test_the_values_and_errors_of_branches(sealed: World) -> None:
    def late(ctx: Any) -> Any:
        ctx.step.sleep("nap", "1s")
        return ctx.step.run("work", dict, card=ctx.event.data["card"])

    def fails(ctx: Any) -> None:
        ctx.step.sleep("nap", "1s")
        raise ValueError(f"the branch stumbles over {ctx.event.data['card']}")

    def waits(ctx: Any) -> Any:
        return ctx.step.wait_for_event("told", event="card/told", match="data.card", timeout="1h")

    def flow(ctx: Any) -> list[Any]:
        found: list[Any] = ctx.group.parallel(partial(late, ctx), lambda: ctx.event.data["card"])
        index, event = ctx.group.race(partial(ctx.step.sleep, "long", "2h"), partial(waits, ctx))
        try:
            ctx.group.parallel(partial(fails, ctx))
        except StepError as error:
            return [*found, index, event.data, error.message]
        return []

    start(sealed, flow)
    sealed.advance("2s")
    sealed.send(Event("card/told", {"card": SECRET}))
    sealed.advance("10s")

    stumbles = f"the branch stumbles over {SECRET}"
    assert sealed.only_run().output == [{"card": SECRET}, SECRET, 1, {"card": SECRET}, stumbles]


def test_the_data_of_who_goes_on_as_new(sealed: World) -> None:
    def flow(ctx: Any) -> Any:
        if "again" not in ctx.event.data:
            ctx.continue_as_new({**ctx.event.data, "again": True})
        return ctx.event.data["card"]

    start(sealed, flow)

    assert [run.output for run in sealed.runs()][1:] == [SECRET]


def test_a_reruns_edited_input_and_a_replays_condition(sealed: World) -> None:
    def flow(ctx: Any) -> Any:
        kept = ctx.step.run("before", dict, card=ctx.event.data["card"])
        return ctx.step.run("work", lambda card, **_: refuse(card) if card == SECRET else [card, kept], SECRET)

    start(sealed, flow)
    (failed,) = sealed.runs()
    new = failed.rerun(from_step="work", input={"args": [f"{SECRET} mended"], "kwargs": {"note": SECRET}})
    sealed.drain()
    replay = sealed.flows.replay("f", pace=1000, if_exp=f"event.data.card == '{SECRET}'")
    sealed.advance("2s")

    assert new.output == [f"{SECRET} mended", {"card": SECRET}]
    assert (replay.done, replay.runs) == (1, {Status.FAILED: 1})


def test_what_is_under_way_in_each_tool_outlives_new_keys(sealed: World) -> None:
    if sealed.store.sealer is None:
        sealed.send("go", {"card": SECRET})
        return

    @sealed.flow(name="child")
    def child(ctx: Any) -> Any:
        ctx.step.sleep("nap", "1h")
        return ctx.event.data["card"]

    def branch(ctx: Any) -> Any:
        ctx.step.run("work", dict, card=ctx.event.data["card"])
        return ctx.step.wait_for_signal("approval", "go/on", timeout="9h").data

    def flow(ctx: Any) -> list[Any]:
        return ctx.group.parallel(partial(branch, ctx), partial(ctx.step.invoke, "call", "child", {"card": SECRET}))

    start(sealed, flow)
    use(sealed, NEW, OLD)
    sealed.flows.signal("go/on", SECRET)
    sealed.advance("2h")

    assert sealed.only_run("f").output == [SECRET, SECRET]
