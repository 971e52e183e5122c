"""`flows runs`, `show`, `events`, `list` and `cron` tell what is in a real store, to people and to scripts."""

import pytest

from celeryflows import Event
from tests.acceptance.terminal import Terminal, busy, close, ready, shop


@pytest.fixture
def runs(terminal: Terminal) -> dict[str, str]:
    return busy(terminal.app)


def test_runs_lists_every_run_with_its_status(terminal, runs):
    listed = terminal.json("runs")["runs"]

    assert {run["flow"]: run["status"] for run in listed} == {
        "ship": "suspended",
        "bill": "failed",
        "ask": "suspended",
        "thank": "completed",
    }
    assert {run["id"] for run in listed} == set(runs.values())


def test_runs_shows_ids_statuses_outputs_and_errors_to_people(terminal, runs):
    printed = terminal("runs").stdout

    assert all(run_id in printed for run_id in runs.values())
    assert '{"thanked": "thank you"}' in printed
    assert "NonRetriableError: card [bold]declined" in printed


def test_runs_can_be_asked_by_status_and_by_flow(terminal, runs):
    assert [run["flow"] for run in terminal.json("runs", "--status", "failed")["runs"]] == ["bill"]
    assert [run["id"] for run in terminal.json("runs", "--flow", "ship")["runs"]] == [runs["ship"]]
    assert terminal.json("runs", "--flow", "nothing") == {"runs": [], "next": None}
    assert [run["flow"] for run in terminal.json("runs", "--if", "error != null")["runs"]] == ["bill"]
    assert terminal.json("runs", "--event", "no/such", "--after", "2020-01-01T00:00:00Z") == {"runs": [], "next": None}
    assert terminal.json("runs", "--before", "2020-01-01T00:00:00Z")["runs"] == []


def test_pages_of_runs_follow_one_another_without_overlap(terminal, runs):
    first = terminal.json("runs", "--limit", "3")
    second = terminal.json("runs", "--limit", "3", "--cursor", first["next"])

    assert len(first["runs"]) == 3
    assert [run["id"] for run in first["runs"] + second["runs"]] == sorted(runs.values(), reverse=True)
    assert second["next"] is None


def test_a_page_that_is_not_the_last_names_the_next_one_to_people(terminal, runs):
    cursor = terminal.json("runs", "--limit", "2")["next"]

    assert terminal("runs", "--limit", "2").stdout.splitlines()[-1] == f"more: --cursor {cursor}"


def test_an_empty_store_is_said_to_be_empty(terminal):
    assert terminal("runs").stdout == "no runs\n"
    assert terminal("events").stdout == "no events\n"


def test_an_unknown_status_is_wrong_usage(terminal):
    assert "'sleeping' is not one of" in terminal.refused("runs", "--status", "sleeping", code=2)


def test_show_draws_a_sleeping_run_on_a_time_axis(terminal, runs):
    printed = terminal("show", runs["ship"]).stdout

    assert f"run    {runs['ship']}  ship  suspended" in printed
    assert "event  order/placed" in printed
    assert "█" in next(line for line in printed.splitlines() if line.startswith("pack"))
    sleeping = next(line for line in printed.splitlines() if line.startswith("settle"))
    assert "░" in sleeping
    assert "sleeping" in sleeping


def test_show_tells_what_a_run_waits_for(terminal, runs):
    printed = terminal("show", runs["ask"]).stdout

    assert "waiting" in printed
    assert "order/answered" in printed


def test_show_tells_a_failed_run_s_error_step_and_stack(terminal, runs):
    printed = terminal("show", runs["bill"]).stdout

    assert "NonRetriableError: card [bold]declined in step 'charge'" in printed
    assert "in _declined" in printed


def test_show_gives_scripts_every_step_with_its_value(terminal, runs):
    shown = terminal.json("show", runs["ship"])

    assert shown["run"]["status"] == "suspended"
    assert shown["event"]["data"]["id"] == 7
    assert [(step["id"], step["standing"], step["value"]) for step in shown["steps"]] == [
        ("pack", "done", {"id": 7}),
        ("settle", "sleeping", None),
    ]


def test_show_gives_scripts_the_error(terminal, runs):
    shown = terminal.json("show", runs["bill"])

    assert shown["run"]["error"]["name"] == "NonRetriableError"
    assert shown["run"]["error"]["step_id"] == "charge"
    assert shown["steps"][0]["standing"] == "failed"


def test_what_a_sender_wrote_never_steers_the_terminal(terminal, runs):
    printed = terminal("show", runs["thank"]).stdout + terminal("events").stdout

    assert "\x1b" not in printed
    assert "[red]" in printed


def test_an_unknown_run_is_told_with_the_store_that_was_looked_in(terminal, runs):
    assert terminal.refused("show", "nobody").startswith("No run 'nobody' in the store ")


def test_events_lists_events_with_the_runs_that_each_started(terminal, runs):
    (event,) = terminal.json("events")["events"]

    assert event["name"] == "order/placed"
    assert {run["run_id"] for run in event["runs"]} == set(runs.values())


def test_our_own_events_are_listed_only_when_asked_for(terminal, runs):
    terminal.app.tasks["ship"].delay(id=1)

    assert [event["name"] for event in terminal.json("events")["events"]] == ["order/placed"]
    assert "flows/flow.invoked" in [event["name"] for event in terminal.json("events", "--own")["events"]]


def test_events_can_be_asked_by_name_and_by_page(terminal):
    terminal.app.flows.send([Event("a/b", {"i": i}) for i in range(3)])
    terminal.app.flows.send("a/c")

    first = terminal.json("events", "--name", "a/b", "--limit", "2")
    second = terminal.json("events", "--name", "a/b", "--limit", "2", "--cursor", first["next"])

    assert [event["data"]["i"] for event in first["events"] + second["events"]] == [2, 1, 0]


def test_list_shows_flows_before_any_worker_has_started(terminal):
    listed = {flow["name"]: flow for flow in terminal.json("list")["flows"]}

    assert set(listed) == {"ship", "bill", "ask", "thank", "report"}
    assert listed["bill"]["events"] == ["order/* if event.data.id == 7"]
    assert not any(flow["registered"] for flow in listed.values())
    assert "not in the store yet" in terminal("list").stdout


def test_list_shows_triggers_labels_and_the_next_cron(terminal, runs):
    listed = {flow["name"]: flow for flow in terminal.json("list")["flows"]}
    printed = terminal("list").stdout

    assert all(flow["registered"] for flow in listed.values())
    assert "0 9 * * 1-5 (Europe/Paris)" in printed
    assert "Ship an order." in printed


def test_cron_shows_when_each_fires_next(terminal, runs):
    (cron,) = terminal.json("cron")["crons"]

    assert (cron["flow"], cron["cron"], cron["tz"], cron["jitter"]) == ("report", "0 9 * * 1-5", "Europe/Paris", "30 s")
    assert cron["registered"]
    assert cron["next_at"][11:16] in ("07:00", "08:00")
    assert "report" in terminal("cron").stdout


def test_a_step_is_shown_with_all_there_is_about_it(terminal, runs):
    found = terminal.json("show", runs["bill"], "--step", "charge")
    assert (found["step"]["standing"], found["held"]["error"]["message"]) == ("failed", "card [bold]declined")
    printed = terminal("show", runs["bill"], "--step", "charge").stdout
    assert "NonRetriableError: card [bold]declined" in printed
    assert "raise NonRetriableError" in printed
    assert "It has: charge" in terminal.refused("show", runs["bill"], "--step", "none")


def test_a_step_shows_what_it_was_called_with_where_that_is_recorded(broker_url, store_url):
    app = shop(broker_url, ready(store_url), flows_record_inputs=True)
    terminal, runs = Terminal(app), busy(app)
    assert terminal.json("show", runs["thank"], "--step", "write")["held"]["called_with"] == ["thank you"]
    assert 'input  ["thank you"]' in terminal("show", runs["thank"], "--step", "write").stdout
    assert "waits  order/answered" in terminal("show", runs["ask"], "--step", "answer").stdout
    close(app)
