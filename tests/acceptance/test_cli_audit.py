"""Whatever is changed at a terminal is written down, as on the pages: who, at which host, to what, with which end."""

import getpass
import socket

import pytest

from tests.acceptance.terminal import busy

ME = f"{getpass.getuser()}@{socket.gethostname()}"


def acts(terminal) -> list[tuple[str, str, str]]:
    """What was done, the newest first."""
    found = terminal.json("audit")["audit"]
    assert {(entry["who"], entry["via"]) for entry in found} <= {(ME, "terminal")}
    return [(entry["action"], entry["subject"], entry["outcome"]) for entry in found]


def test_who_sends_cancels_and_starts_again_is_written_down_with_what_came_of_it(terminal):
    assert terminal("audit").stdout == "nothing was done yet\n"
    runs = busy(terminal.app)
    assert terminal("cancel", runs["ship"], "--because", "a duplicate").exit_code == 0
    terminal.refused("cancel", runs["ship"])
    new = terminal.json("rerun", runs["thank"])["id"]
    sent = terminal.json("invoke", "thank", '{"id": 9}', "--key", "once")["run_id"]
    assert terminal.json("invoke", "thank", '{"id": 9}', "--key", "once")["run_id"] == sent != new

    assert acts(terminal) == [
        ("invoke_flow", "thank key=once", "done"),
        ("invoke_flow", "thank key=once", "done"),
        ("rerun_run", runs["thank"], "done"),
        ("cancel_run", f"{runs['ship']} because=cancelled by hand", "refused: Refused"),
        ("cancel_run", f"{runs['ship']} because=a duplicate", "done"),
    ]
    assert ME in terminal("audit", "--who", ME, "--limit", "1").stdout
    assert terminal.json("audit", "--who", "somebody else")["audit"] == []


@pytest.mark.parametrize(
    ("words", "action", "subject"),
    [
        (["send", "order/placed", '{"id": 1}', "--id", "o1"], "send_event", "order/placed id=o1"),
        (["pause", "ship", "--cancel-running"], "pause_flow", "ship cancel_running=True"),
        (["resume", "ship"], "resume_flow", "ship"),
        (
            ["cancel", "--flow", "ship", "--status", "suspended", "--yes"],
            "cancel_runs",
            "ship status=suspended because=cancelled by hand",
        ),
        (["replay", "bill", "--no-wait"], "replay_runs", "bill status=failed pace=10"),
        (["prune", "--older-than", "1d"], "prune", "all flows older_than=1d"),
        (["keys", "create", "the shop"], "create key", "the shop"),
    ],
)
def test_every_command_that_changes_something_is_written_down(terminal, words, action, subject):
    busy(terminal.app)
    assert terminal(*words).exit_code == 0
    assert acts(terminal) == [(action, subject, "done")]


@pytest.mark.parametrize(
    "words", [["runs"], ["cancel", "--flow", "ship", "--dry-run"], ["prune", "--older-than", "1d", "--dry-run"]]
)
def test_who_only_looks_is_not_written_down(terminal, words):
    busy(terminal.app)
    assert terminal(*words).exit_code == 0
    assert acts(terminal) == []
