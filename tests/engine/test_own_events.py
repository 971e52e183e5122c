"""Promises of our own events: a run's end is told once to who listens, hidden from lists, and never in a circle."""

from typing import Any

import pytest

from celeryflows import Event, OnEvent
from celeryflows.engine.turn import take_turn
from celeryflows.scheduler.sweeper import route_left
from tests.engine.world import Process, World

ENDS = ("flows/run.completed", "flows/run.failed", "flows/run.cancelled")


def listen(process: Process, name: str, *triggers: Any) -> list[dict[str, Any]]:
    """A flow that notes the data of what starts it."""
    heard: list[dict[str, Any]] = []
    process.flow(name=name, trigger=list(triggers))(lambda ctx: heard.append(ctx.event.data))
    return heard


def breaks(ctx: Any) -> None:
    raise ValueError(f"no {ctx.event.data.get('n')}")


# --- what is told


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
