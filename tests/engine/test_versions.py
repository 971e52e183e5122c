"""A run keeps the version that it started under, whatever is deployed meanwhile; a new one gets the newest."""

from typing import Any

import pytest

from celeryflows.durations import HOUR
from tests.engine.world import Process, World


def deploy(process: Process, version: str | None) -> None:
    """The same flow under a version."""

    @process.flow(name="f", trigger="a/b", version=version)
    def handler(ctx: Any) -> list[str | None]:
        before = ctx.version
        ctx.step.sleep("nap", "1h")
        return [before, ctx.version, ctx.step.run("inside", lambda: ctx.version)]

    process.start_worker()


@pytest.mark.parametrize(("old", "new"), [("1", "2"), (None, "2"), ("1", None)])
def test_a_run_keeps_the_version_that_it_started_under_over_a_deploy(
    world: World, old: str | None, new: str | None
) -> None:
    deploy(world, old)
    world.send("a/b")
    world.stop_worker()
    newer = world.process()
    deploy(newer, new)

    newer.send("a/b")
    newer.turn_to(world.clock.now() + 2 * HOUR)

    assert [run.output for run in world.runs()] == [[old] * 3, [new] * 3]


def test_a_version_lets_a_handler_branch(world: World) -> None:
    world.flow(name="f", trigger="a/b", version="1")(lambda ctx: ctx.step.sleep("nap", "1h"))
    world.start_worker()
    world.send("a/b")
    world.stop_worker()
    newer = world.process()

    @newer.flow(name="f", trigger="a/b", version="2")
    def handler(ctx: Any) -> str:
        if ctx.version == "1":
            ctx.step.sleep("nap", "1h")
            return "the old way"
        return "the new way"

    newer.start_worker()
    newer.send("a/b")
    newer.turn_to(world.clock.now() + 2 * HOUR)

    assert [run.output for run in world.runs()] == ["the old way", "the new way"]


def test_a_call_by_name_starts_under_the_newest_version_that_the_store_knows(world: World) -> None:
    deploy(world, "1")
    sender = world.process("other")
    run = sender.flows.replay_event(sender.flows.send("x/y")[0], "f")
    world.stop_worker()
    newer = world.process()
    deploy(newer, "2")
    again = sender.flows.replay_event(sender.flows.send("x/y")[0], "f")
    newer.turn_to(world.clock.now() + 2 * HOUR)

    assert [run.output[0], again.output[0]] == ["1", "2"]


@pytest.mark.parametrize("from_step", [None, "inside"])
def test_a_rerun_starts_under_the_newest_version(world: World, from_step: str | None) -> None:
    deploy(world, "1")
    world.send("a/b")
    world.advance("2h")
    world.stop_worker()
    newer = world.process()
    deploy(newer, "2")

    new = newer.flows.run(world.only_run().id).rerun(from_step=from_step)
    newer.turn_to(world.clock.now() + 2 * HOUR)

    assert newer.flows.run(new.id).output == ["2"] * 3
