"""Promises of who hears of a run's end: nobody in a circle, nobody too late, whoever began to listen and wherever."""

from typing import Any

import pytest

from celeryflows import Event
from celeryflows.engine.turn import take_turn
from celeryflows.scheduler.sweeper import route_left
from tests.engine.listeners import breaks, listen
from tests.engine.world import World

# --- never in a circle


def test_a_watcher_that_fails_does_not_start_itself(world: World) -> None:
    world.flow(name="broken", trigger="a/b", retries=0)(breaks)
    world.flow(name="watch", trigger="flows/run.failed", retries=0)(breaks)

    world.send("a/b")

    assert [run.status for run in world.runs("watch")] == ["failed"]


@pytest.mark.parametrize("pattern", ["flows/run.completed", "flows/run.*", "flows/*"])
def test_watchers_of_every_end_do_not_start_each_other_for_ever(world: World, pattern: str) -> None:
    for name in ("one", "two", "three"):
        listen(world, name, pattern)
    world.flow(name="f", trigger="a/b")(lambda ctx: None)

    world.send("a/b")

    # Each hears of f, and of each order in which the others may have heard: 3 + 6 + 6.
    assert len(world.runs()) == 1 + 15
    assert max(len(event.data) for event in world.events(own=True)) < 10_000


# --- and never lost


class Killed(BaseException):
    """Stands for kill -9."""


def test_an_end_whose_teller_is_killed_is_told_by_recovery_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = listen(world, "audit", "flows/run.completed")
    world.flow(name="f", trigger="a/b")(lambda ctx: None)
    world.flows.send("a/b")

    def die(*args: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("celeryflows.engine.conclusion.route_ended", die)
        with pytest.raises(Killed):
            world.drain()
    assert world.only_run("f").status == "completed"
    assert heard == []

    world.clock.turn(250_000)
    assert route_left(world.runtime) == 1
    assert route_left(world.runtime) == 0
    world.drain()
    assert len(heard) == 1


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
def test_who_listens_from_now_on_hears_of_what_ends_from_now_on(world: World, end: str) -> None:
    world.flow(name="f", trigger="a/b", retries=0)(breaks if end == "failed" else lambda ctx: ctx.event.data["n"])
    second = world.process("second")
    heard = listen(second, "audit", f"flows/run.{end}")

    def end_one() -> None:
        """Here, where the last look at who listens may be old."""
        run_id = world.broker.waiting.popleft().run_id
        if end == "cancelled":
            world.flows.run(run_id).cancel()
        take_turn(world.runtime, run_id)

    world.flows.send([Event("a/b", {"n": n}) for n in (1, 2)])
    end_one()
    second.start_worker()
    end_one()
    second.drain()

    assert [data["event"]["data"]["n"] for data in heard] == [2]


# --- waited for


def test_a_run_may_wait_for_the_end_of_another(world: World) -> None:
    world.flow(name="child", trigger="child/start")(lambda ctx: ctx.event.data["n"] * 2)

    @world.flow(name="parent", trigger="a/b")
    def parent(ctx: Any) -> Any:
        ctx.step.send_event("start", Event("child/start", {"n": 4}))
        end = ctx.step.wait_for_event(
            "end", event="flows/run.completed", timeout="1h", if_exp="async.data.flow == 'child'"
        )
        return end.data["output"] if end else None

    world.send("a/b")
    world.advance("2h")

    assert world.only_run("parent").output == 8


def test_a_run_that_ends_elsewhere_right_after_the_first_wait_for_it_is_told(world: World) -> None:
    elsewhere = world.process("elsewhere")
    elsewhere.flow(name="child", trigger="child/start")(lambda ctx: ctx.event.data["n"])

    @world.flow(name="parent", trigger="a/b")
    def parent(ctx: Any) -> Any:
        return ctx.step.wait_for_event("end", event="flows/run.completed", timeout="1h").data["output"]

    elsewhere.flows.send([Event("child/start", {"n": n}) for n in (1, 2)])
    take_turn(elsewhere.runtime, world.broker.waiting.popleft().run_id)
    slow = world.broker.waiting.popleft().run_id
    world.send("a/b")
    take_turn(elsewhere.runtime, slow)
    world.drain()

    assert world.only_run("parent").output == 2
