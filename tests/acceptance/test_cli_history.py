"""`flows export` and `flows check-history` on a real store: whole files, and exit codes that a deploy can stand on."""

import json
from pathlib import Path

import pytest
from celery import Celery

from celeryflows import Flows
from tests.acceptance.terminal import Terminal, busy, close


@pytest.fixture
def ran(terminal: Terminal) -> dict[str, str]:
    """One order, and the id of each flow's run: bill has failed, thank is completed, ship sleeps, ask waits."""
    return busy(terminal.app)


@pytest.fixture
def redeployed(terminal: Terminal, ran: dict[str, str]):
    """The shop of tomorrow, in which `thank` sleeps where it wrote, and `ship` packs no more."""
    app = Celery("shop", broker=terminal.app.conf.broker_url, set_as_current=False)
    app.conf.flows_store_url = terminal.app.conf.flows_store_url
    flows = Flows(app)
    flows.flow(lambda ctx: ctx.step.sleep("write", "1h"), name="thank")
    flows.flow(lambda ctx: ctx.step.sleep("settle", "1h"), name="ship")
    flows.flow(lambda ctx: ctx.step.run("charge", print), name="bill", retries=0)
    flows.flow(lambda ctx: ctx.step.wait_for_event("answer", event="order/answered", timeout="2h"), name="ask")
    yield Terminal(app)
    close(app)


def test_export_writes_a_line_for_each_run(terminal, ran, tmp_path):
    file = tmp_path / "runs.jsonl"
    done = terminal("export", "-o", str(file))

    records = [json.loads(line) for line in file.read_text().splitlines()]
    assert done.stdout == f"4 runs in {file}\n"
    assert {record["run"]["id"] for record in records} == set(ran.values())
    assert {record["event"]["data"]["id"] for record in records} == {7}
    assert list(tmp_path.glob("*.part")) == []


def test_export_goes_to_stdout_and_takes_filters(terminal, ran):
    def exported(*words):
        return [json.loads(line)["run"]["flow"] for line in terminal("export", *words).stdout.splitlines()]

    assert len(exported()) == 4
    assert exported("--flow", "ship") == ["ship"]
    assert exported("--status", "failed") == ["bill"]
    assert sorted(exported("--status", "open")) == ["ask", "ship"]
    assert exported("--after", "2099-01-01T00:00:00Z") == []


def test_a_file_that_cannot_be_written_is_told_in_one_line(terminal, ran, tmp_path):
    said = terminal.refused("export", "-o", str(tmp_path / "no" / "runs.jsonl"))

    assert "cannot be written: No such file" in said


def test_the_code_that_recorded_the_runs_fits_them(terminal, ran):
    done = terminal("check-history")

    assert (done.exit_code, done.stdout) == (0, "4 runs checked: 0 would break, 0 differ\n")


def test_a_break_is_told_and_ends_with_1(redeployed, ran):
    done = redeployed("check-history")

    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert lines[-1] == "4 runs checked: 1 would break, 1 differ"
    assert any(line.startswith(f"breaks thank {ran['thank']} (completed) kind: ") for line in lines)
    assert any(line.startswith(f"differs ship {ran['ship']} (suspended) removed: ") for line in lines)


def test_what_only_differs_fails_when_it_is_asked_to(redeployed, ran):
    assert redeployed("check-history", "--flow", "ship").exit_code == 0
    assert redeployed("check-history", "--flow", "ship", "--strict").exit_code == 1
    assert redeployed("check-history", "--status", "open").exit_code == 0


def test_an_exported_file_is_checked_and_told_as_json(terminal, redeployed, ran, tmp_path):
    file = tmp_path / "runs.jsonl"
    terminal("export", "-o", str(file))

    done = redeployed("check-history", str(file), "--json")

    found = json.loads(done.stdout)
    assert (done.exit_code, found["checked"], found["broken"]) == (1, 4, 1)
    assert {run["flow"]: run["findings"][0]["what"] for run in found["runs"]} == {"thank": "kind", "ship": "removed"}


def test_a_file_that_is_no_export_is_told_in_one_line(terminal, tmp_path):
    Path(tmp_path / "x").write_text("hello")

    assert "no line of a history export" in terminal.refused("check-history", str(tmp_path / "x"))
