"""`flows signal` wakes a run, and `flows show` shows the runs that belong together."""

import json

import pytest
from celery import Celery

from celeryflows.engine.turn import take_turn
from celeryflows.scheduler.inline import InlineDispatcher
from tests.acceptance.terminal import Terminal


@pytest.fixture
def app(terminal: Terminal) -> Celery:
    """The shop with flows that wait for a signal, invoke and go on as new."""
    flows = terminal.app.flows
    flows.flow(name="approval")(lambda ctx: ctx.step.wait_for_signal("ok", "approval/7", timeout="1h").data)
    flows.flow(name="asks")(lambda ctx: ctx.step.invoke("approve", "approval"))
    flows.flow(name="counts")(lambda ctx: ctx.event.data or ctx.continue_as_new({"n": 1}))
    flows.runtime.dispatcher = InlineDispatcher()
    return terminal.app


def run(app: Celery, flow: str) -> str:
    """Start a flow and take every turn that can be taken; its run's id."""
    runtime = app.flows.runtime
    run_id = str(app.tasks[flow].delay().id)
    while runtime.dispatcher.waiting:
        take_turn(runtime, runtime.dispatcher.waiting.popleft().run_id)
    return run_id


def test_signal_tells_the_run_that_it_woke(terminal: Terminal, app: Celery) -> None:
    run_id = run(app, "approval")

    assert terminal("signal", "approval/7", '{"by": "Ann"}').stdout == f"woke {run_id}\n"
    [step] = terminal.json("show", run_id)["steps"]
    assert step["value"] == {"name": "approval/7", "data": {"by": "Ann"}}


def test_signal_takes_any_json_and_stdin(terminal: Terminal, app: Celery) -> None:
    run_id = run(app, "approval")

    done = terminal("signal", "approval/7", "-", "--json", stdin="[1, null]")
    assert json.loads(done.stdout) == {"run_id": run_id}
    assert terminal.json("show", run_id)["steps"][0]["value"]["data"] == [1, None]


def test_signal_fails_when_nobody_waits(terminal: Terminal) -> None:
    done = terminal("signal", "approval/7")

    assert done.exit_code == 1
    assert "No run waits for the signal 'approval/7'" in done.stderr


@pytest.mark.parametrize("words", [["flows/x"], ["a/b", "{"], []])
def test_signal_refuses_a_line_that_cannot_be_right(terminal: Terminal, words: list[str]) -> None:
    assert terminal("signal", *words).exit_code == 2


def test_show_links_parent_and_child(terminal: Terminal, app: Celery) -> None:
    parent = run(app, "asks")
    [child] = terminal.json("runs", "--flow", "approval")["runs"]

    assert (child["parent"], child["parent_key"]) == (parent, "approve")
    assert f"invoked by {parent} in step approve" in terminal("show", child["id"]).stdout
    assert child["id"] in terminal("show", parent).stdout
    assert terminal.json("show", parent)["steps"][0]["child"] == child["id"]


def test_show_links_a_line_of_runs(terminal: Terminal, app: Celery) -> None:
    first = run(app, "counts")
    following = terminal.json("show", first)["run"]["continued_as"]

    assert f"goes on as {following}" in terminal("show", first).stdout
    assert f"goes on for {first}" in terminal("show", following).stdout
