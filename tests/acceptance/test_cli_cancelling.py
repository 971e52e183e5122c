"""`flows cancel --flow`, `pause` and `resume` on a real store: what they do, ask and refuse."""

import pytest

from tests.acceptance.terminal import busy


def statuses(terminal, flow):
    return sorted(run["status"] for run in terminal.json("runs", "--flow", flow)["runs"])


def order(terminal, *ids):
    for number in ids:
        terminal("send", "order/placed", f'{{"id": {number}}}')


def test_many_runs_of_a_flow_are_cancelled(terminal):
    order(terminal, 1, 2, 3)

    done = terminal("cancel", "--flow", "ship", "--yes", "--because", "a bad deploy")

    assert (done.exit_code, done.stdout) == (0, "cancelled 3 runs of ship\n")
    assert {run["reason"] for run in terminal.json("runs", "--flow", "ship")["runs"]} == {"a bad deploy"}
    assert statuses(terminal, "ask") == ["queued"] * 3


def test_a_dry_run_counts_and_changes_nothing(terminal):
    order(terminal, 1, 2, 3)

    assert terminal("cancel", "--flow", "ship", "--if", "event.data.id > 1", "--dry-run").stdout == "2 runs of ship\n"
    assert terminal.json("cancel", "--flow", "ship", "--dry-run") == {"found": 3}
    assert statuses(terminal, "ship") == ["queued"] * 3


@pytest.mark.parametrize(("answer", "left"), [("y\n", "cancelled"), ("n\n", "queued"), ("", "queued")])
def test_without_yes_it_asks_first(terminal, answer, left):
    order(terminal, 1)

    done = terminal("cancel", "--flow", "ship", stdin=answer)

    assert "Cancel 1 runs of ship?" in done.stderr
    assert statuses(terminal, "ship") == [left]
    assert done.exit_code == (0 if left == "cancelled" else 1)


def test_time_state_and_condition_choose_together(terminal):
    busy(terminal.app)
    order(terminal, 8, 9)

    words = ("--flow", "ship", "--yes", "--after", "2020-01-01T00:00:00Z", "--before", "2099-01-01T00:00:00Z")
    assert terminal.json("cancel", *words, "--status", "queued", "--if", "event.data.id == 8") == {"cancelled": 1}
    assert terminal.json("cancel", "--flow", "ship", "--yes", "--before", "2020-01-01T00:00:00Z") == {"cancelled": 0}
    assert statuses(terminal, "ship") == ["cancelled", "queued", "suspended"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "Give the id of a run, or --flow for many."),
        (["r1", "--flow", "ship"], 2, "Give the id of a run, or --flow for many."),
        (["r1", "--yes"], 2, "go with --flow"),
        (["--flow", "ship", "--yes", "--terminate"], 2, "--terminate goes with the id of a run."),
        (["--flow", "ship", "--yes", "--after", "yesterday"], 2, "cannot read"),
        (["--flow", "ship", "--yes", "--if", "event.data.id >"], 1, "if_exp"),
        (["--flow", "ship", "--yes", "--status", "failed"], 2, "'failed' is not one of"),
        (["--flow", "shipp", "--yes"], 1, "No flow 'shipp'. Known: "),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(terminal, words, code, said):
    order(terminal, 1)

    assert said in terminal.refused("cancel", *words, code=code)
    assert statuses(terminal, "ship") == ["queued"]


def test_one_run_is_cancelled_as_json_too(terminal):
    run = busy(terminal.app)["ship"]

    assert terminal.json("cancel", run, "--terminate") == {"cancelled": 1, "run": run}


def test_a_paused_flow_is_shown_and_starts_nothing_until_it_is_resumed(terminal):
    order(terminal, 1)

    assert terminal("pause", "ship").stdout == "paused ship\n"
    assert terminal("pause", "ship").stdout == "was paused already: ship\n"
    order(terminal, 2)
    assert "paused since" in terminal("list").stdout
    assert statuses(terminal, "ship") == ["queued", "skipped"]
    assert terminal.json("resume", "ship") == {"flow": "ship", "changed": True}
    assert terminal("resume", "ship").stdout == "was not paused: ship\n"
    order(terminal, 3)
    assert statuses(terminal, "ship") == ["queued", "queued", "skipped"]


def test_pause_cancels_what_is_there_when_asked(terminal):
    order(terminal, 1, 2)

    assert terminal.json("pause", "ship", "--cancel-running") == {"flow": "ship", "changed": True, "cancelled": 2}
    assert statuses(terminal, "ship") == ["cancelled", "cancelled"]


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_an_unknown_flow_is_refused(terminal, command):
    assert terminal.refused(command, "shipp").startswith("No flow 'shipp'. Known: ")
