"""Promises of our own events: what a run's end tells, once, to who listens; lists hide it unless asked for it."""

from typing import Any

import pytest

from celeryflows import Event, OnEvent
from tests.engine.listeners import breaks, listen
from tests.engine.world import World

ENDS = ("flows/run.completed", "flows/run.failed", "flows/run.cancelled")


def test_a_completed_run_tells_its_value(world: World) -> None:
    heard = listen(world, "audit", "flows/run.completed")
    world.flow(name="double", trigger="a/b")(lambda ctx: {"twice": ctx.event.data["n"] * 2})

    world.send(Event("a/b", {"n": 4}, id="e1"))

    (data,) = heard
    (run,) = world.runs("double")
    event = {"name": "a/b", "data": {"n": 4}, "id": "e1", "ts": world.events()[0].ts // 1000, "v": None}
    assert data == {
        "run_id": run.id,
        "flow": "double",
        "event": event,
        "events": [event],
        "output": {"twice": 8},
    }


def test_a_failed_run_tells_its_error(world: World) -> None:
    heard = listen(world, "alert", "flows/run.failed")
    world.flow(name="broken", trigger="a/b", retries=0)(breaks)

    world.send("a/b", {"n": 4})

    (data,) = heard
    error = data.pop("error")
    assert (error["name"], error["message"], error["step_id"]) == ("ValueError", "no 4", None)
    assert "raise ValueError" in error["stack"]
    assert (data["run_id"], data["flow"]) == (world.only_run("broken").id, "broken")
    assert data["event"]["data"] == {"n": 4}
    assert data["events"] == [data["event"]]


def test_the_failure_of_a_step_tells_the_originals_name_and_the_step(world: World) -> None:
    heard = listen(world, "alert", "flows/run.failed")
    world.flow(name="broken", trigger="a/b", retries=0)(lambda ctx: ctx.step.run("charge", breaks, ctx))

    world.send("a/b", {"n": 4})

    assert (heard[0]["error"]["name"], heard[0]["error"]["step_id"]) == ("ValueError", "charge")


def test_a_cancelled_run_tells_its_reason_once(world: World) -> None:
    heard = listen(world, "audit", "flows/run.cancelled")
    world.flow(name="sleeper", trigger="a/b")(lambda ctx: ctx.step.sleep("nap", "1h"))
    world.send("a/b")
    run = world.only_run("sleeper")

    assert run.cancel("changed my mind") is True
    assert run.cancel("again") is False
    world.advance("2h")

    assert [(data["run_id"], data["flow"], data["reason"]) for data in heard] == [
        (run.id, "sleeper", "changed my mind")
    ]
    assert run.reason == "changed my mind"


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
def test_an_end_is_told_by_its_own_name_only(world: World, end: str) -> None:
    heard = {name: listen(world, name.replace("/", "."), name) for name in ENDS}

    @world.flow(name="f", trigger="a/b", retries=0)
    def f(ctx: Any) -> None:
        if end == "cancelled":
            world.flows.run(ctx.run_id).cancel()
            ctx.step.run("late", lambda: None)
        if end == "failed":
            raise ValueError("no")

    world.send("a/b")

    assert world.only_run("f").status == end
    of_f = {name: [data for data in found if data["flow"] == "f"] for name, found in heard.items()}
    assert {name: len(found) for name, found in of_f.items()} == {
        name: int(name == f"flows/run.{end}") for name in ENDS
    }


def test_a_run_that_is_tried_again_or_sleeps_has_not_ended(world: World) -> None:
    heard = [listen(world, name.replace("/", "."), name) for name in ENDS]
    world.flow(name="broken", trigger="a/b", retries=3)(breaks)
    world.flow(name="sleeper", trigger="a/b")(lambda ctx: ctx.step.sleep("nap", "1h"))

    world.send("a/b")
    world.advance("1s")

    assert heard == [[], [], []]


def test_a_skipped_run_tells_nothing(world: World) -> None:
    heard = [listen(world, name.replace("/", "."), name) for name in ENDS[1:]]
    world.flow(name="f", trigger="a/b")(lambda ctx: None)

    world.send([Event("a/b", id="e1"), Event("a/b", id="e1")])

    assert len(world.runs("f", "skipped")) == 1
    assert heard == [[], []]


def test_a_condition_chooses_among_the_ends(world: World) -> None:
    heard = listen(world, "audit", OnEvent("flows/run.failed", "event.data.error.name == 'ValueError'"))
    world.flow(name="one", trigger="a/b", retries=0)(breaks)
    world.flow(name="other", trigger="a/b", retries=0)(lambda ctx: 1 / 0)

    world.send("a/b")

    assert [data["flow"] for data in heard] == ["one"]


# --- hidden from lists


def test_our_own_events_are_hidden_from_lists_unless_asked_for(world: World) -> None:
    listen(world, "audit", "flows/run.completed")
    world.flow(name="f", trigger="a/b")(lambda ctx: None)

    world.send("a/b")

    assert [event.name for event in world.events()] == ["a/b"]
    assert {event.name for event in world.events(own=True)} == {"a/b", "flows/run.completed"}


def test_where_nobody_listens_nothing_is_stored(world: World) -> None:
    world.flow(name="f", trigger="a/b")(lambda ctx: None)
    world.flow(name="broken", trigger="a/b", retries=0)(breaks)

    world.send("a/b")

    assert [event.name for event in world.events(own=True)] == ["a/b"]
