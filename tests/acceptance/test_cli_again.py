"""`flows rerun`, `replay` and `replays` start runs again on a real store, and refuse in one line what cannot be."""

import json

import pytest

from celeryflows.cli import rerun_commands
from celeryflows.engine.replay import drive_due
from celeryflows.engine.turn import take_turn
from tests.acceptance.terminal import Terminal, busy, enter_worker


@pytest.fixture
def ran(terminal: Terminal) -> dict[str, str]:
    """One order, and the id of each flow's run: bill has failed, thank is completed, ship sleeps."""
    return busy(terminal.app)


@pytest.fixture
def driven(terminal, monkeypatch):
    """While a command waits, a worker drives replays."""
    monkeypatch.setattr(rerun_commands.time, "sleep", lambda _: drive_due(terminal.app.flows.runtime))


def steps(terminal, run_id):
    take_turn(terminal.app.flows.runtime, run_id)
    return {step["id"]: step["value"] for step in terminal.json("show", run_id)["steps"]}


def test_rerun_starts_a_run_again_from_a_step_with_other_arguments(terminal, ran):
    enter_worker(terminal)
    new = terminal.json("rerun", ran["thank"], "--from-step", "write", "--input", '["many thanks"]')

    assert new["origin"] == ran["thank"]
    assert steps(terminal, new["id"]) == {"write": "many thanks"}


def test_a_rerun_shows_what_it_repeats_and_what_it_kept(terminal, ran):
    new = terminal.json("rerun", ran["bill"], "--from-step", "charge", "--input", "{}")["id"]
    edited = terminal.json("show", new)
    assert (edited["run"]["origin"], edited["steps"][0]["standing"]) == (ran["bill"], "edited")

    terminal.app.flows.run(ran["ship"]).cancel()
    kept = terminal.json("rerun", ran["ship"], "--from-step", "settle")["id"]
    take_turn(terminal.app.flows.runtime, kept)

    assert f"rerun of {ran['ship']}" in terminal("show", kept).stdout
    assert "done, kept" in terminal("show", kept).stdout
    assert [step["kept"] for step in terminal.json("show", kept)["steps"]] == [True, False]


def test_rerun_says_so_when_no_worker_is_alive(terminal, ran):
    done = terminal("rerun", ran["thank"])

    assert done.stdout.startswith("run 0")
    assert "no worker is alive" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["rerun", "nobody"], 1, "No run 'nobody'"),
        (["rerun", "{ship}"], 1, "is suspended: its steps would be done twice at once"),
        (["rerun", "{thank}", "--from-step", "x"], 1, "no step 'x' was recorded in this run. Its steps: 'write'"),
        (["rerun", "{thank}", "--input", "[1]"], 1, "input belongs to a step"),
        (["rerun", "{thank}", "--from-step", "write", "--input", "["], 2, "not valid JSON"),
        (["rerun", "{thank}", "--from-step", "write", "--input", "5"], 1, "input is a list"),
        (["replay", "nothing"], 1, "No flow 'nothing'"),
        (["replay", "bill", "--pace", "fast"], 1, "runs a second"),
        (["replay", "bill", "--after", "yesterday"], 2, "after: cannot read 'yesterday'"),
        (["replay", "bill", "--status", "queued"], 2, "is not one of"),
        (["replay", "bill", "--if-exp", "event.data >"], 1, "if_exp of a replay"),
        (["replay", "bill", "--event", "none"], 1, "No event 'none'"),
        (["replays", "--cancel", "none"], 1, "No replay 'none'"),
    ],
)
def test_what_cannot_be_started_again_is_refused_in_one_line(terminal, ran, words, code, said):
    assert said in terminal.refused(*(word.format(**ran) for word in words), code=code)


def test_a_dry_run_tells_how_many_and_starts_none(terminal, ran):
    assert terminal("replay", "bill", "--dry-run").stdout == "1 runs would be started\n"
    assert terminal.json("replay", "bill", "--dry-run", "--status", "completed") == {"total": 0}
    assert terminal.json("replays") == {"replays": []}
    assert terminal("replays").stdout == "no replays\n"


def test_replay_follows_until_all_are_started(terminal, ran, driven):
    done = terminal("replay", "bill", "--pace", "100/m")

    lines = done.stdout.splitlines()
    assert lines[0].startswith("replay 0")
    assert lines[1:] == ["0 of 1 started", "done: 1 of 1 started (1 queued)"]
    assert len(terminal.json("runs", "--flow", "bill")["runs"]) == 2


def test_replay_can_leave_it_to_the_workers_and_be_cancelled(terminal, ran):
    made = terminal.json("replay", "bill", "--no-wait")
    assert (made["standing"], made["total"], made["done"]) == ("under way", 1, 0)

    assert terminal("replays", "--cancel", made["id"]).stdout.startswith("cancelled 0")
    assert "has ended already" in terminal.refused("replays", "--cancel", made["id"])

    (found,) = terminal.json("replays")["replays"]
    assert (found["standing"], found["cancelled"], found["runs"]) == ("cancelled", "cancelled by hand", {})
    assert "0 of 1" in terminal("replays").stdout


def test_ctrl_c_ends_the_look_and_not_the_replay(terminal, ran, monkeypatch):
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rerun_commands.time, "sleep", interrupt)
    done = terminal("replay", "bill")

    assert done.exit_code == 0
    assert "it goes on" in done.stderr
    assert terminal.json("replays")["replays"][0]["standing"] == "under way"


def test_replay_starts_a_flow_with_one_event(terminal, ran):
    (event,) = terminal.json("events")["events"]
    done = json.loads(terminal("replay", "report", "--event", event["id"], "--json").stdout)

    (run,) = terminal.json("runs", "--flow", "report")["runs"]
    assert (run["id"], run["event_id"]) == (done["id"], event["id"])
