"""Whole runs leave the store in bounded pages: each once, in order, and read again as they were remembered."""

import json
from typing import Any

import pytest

from celeryflows.model.history import MOMENTS, line_of, read_line
from celeryflows.model.runs import Status
from celeryflows.store.database import Store
from celeryflows.store.reports import history
from celeryflows.store.reports.history import Chosen, whole_runs
from tests.store.making import FLOW, a_step, a_wait, put_event, put_run, running, take_claim


def lines(store: Store, chosen: Chosen = Chosen(), **how: Any) -> list[dict[str, Any]]:  # noqa: B008
    return [json.loads(line_of(record)) for record in whole_runs(store, chosen, **how)]


@pytest.mark.parametrize("newest_first", [False, True])
def test_every_run_comes_once_over_pages_in_the_order_of_ids(
    store: Store, monkeypatch: pytest.MonkeyPatch, newest_first: bool
) -> None:
    monkeypatch.setattr(history, "LOOK", 5)
    monkeypatch.setattr(history, "WHOLE", 2)
    ids = [put_run(store) for _ in range(11)]

    found = [line["run"]["id"] for line in lines(store, newest_first=newest_first)]

    assert found == sorted(ids, reverse=newest_first)


def test_runs_that_come_while_it_reads_harm_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "LOOK", 2)
    ids = [put_run(store) for _ in range(5)]
    found = []
    for record in whole_runs(store, Chosen()):
        found.append(record["run"]["id"])
        if len(found) <= 5:
            put_run(store)

    assert found[:5] == ids
    assert len(found) == len(set(found))


def test_runs_are_chosen_by_flow_state_and_time(store: Store) -> None:
    done = running(store)
    with store.connection() as connection:
        connection.runs.finish(done, Status.COMPLETED, "1", None)
    put_run(store, flow="other")
    put_run(store, Status.SKIPPED, reason="because")
    every = lines(store)
    made = {line["run"]["id"]: line["run"]["created_at"] for line in every}

    def chosen(**words: Any) -> list[str]:
        return [line["run"]["status"] for line in lines(store, Chosen(**words))]

    assert len(every) == 3
    assert made[done.run_id].endswith("+00:00")
    assert chosen(flow=FLOW) == ["completed", "skipped"]
    assert chosen(statuses={"queued"}) == ["queued"]
    assert chosen(after=2**60) == []
    assert chosen(before=0) == []
    assert len(chosen(after=0, before=2**60)) == 3


def test_a_line_is_read_again_as_the_run_remembers(store: Store) -> None:
    claim = take_claim(store, put_run(store))
    event_id = put_event(store, "shop/paid", '{"order":1,"at":1.0}')
    wait, missed = a_wait(claim), a_wait(claim, "missed")
    values = ['{"x":[1,2.5,null,"ü"]}', '{"$type":"datetime","value":"2026-01-01T00:00:00+00:00"}', "null", None]
    with store.begin() as tx:
        tx.steps.put([a_step(claim, f"s{i}", value) for i, value in enumerate(values)])
        tx.steps.put([a_step(claim, "failed", '{"name":"E","message":"m"}', state="failed")])
        tx.steps.put([a_step(claim, key, None, kind="wait", state="waiting", due=5) for key in ("paid", "missed")])
        tx.waits.arm(wait)
        tx.waits.arm(missed)
        tx.waits.answer(wait.id, event_id)
    with store.connection() as connection:
        connection.execute("UPDATE flows_waits SET state = 'expired' WHERE id = :id", id=missed.id)
        memos = connection.steps.memos(claim.run_id)

    (record,) = whole_runs(store, Chosen())
    read = read_line(line_of(record), now=7)

    assert read.memos == memos
    assert read.event == claim.event
    assert (read.run_id, read.flow, read.status, read.until) == (claim.run_id, FLOW, "running", 7)
    assert read.started_at == claim.started_at


def test_a_line_has_what_the_operations_page_says(store: Store) -> None:
    claim = running(store)
    with store.begin() as tx:
        tx.steps.put([a_step(claim, "paid", None, kind="wait", state="waiting", due=5)])
        tx.waits.arm(a_wait(claim))
    (line,) = lines(store)

    assert set(line) == {"format", "run", "event", "steps"}
    assert line["format"] == "celeryflows-history/1"
    assert {"id", "flow", "version", "status", "created_at", "origin", "reason"} <= set(line["run"])
    assert set(line["event"]) == {"id", "key", "name", "data", "ts", "v", "arrived_at"}
    (step,) = line["steps"]
    assert set(step["wait"]) == {
        *("kind", "name", "path", "match", "if_exp", "state", "began", "armed_at", "due_at", "problem", "event")
    }
    shown = {**line["run"], **line["event"], **step, **step["wait"]}
    assert {type(shown[name]) for name in MOMENTS if name in shown} <= {str, type(None)}


def test_an_edited_input_is_exported(store: Store) -> None:
    origin = running(store)
    new = put_run(store)
    with store.begin() as tx:
        tx.steps.put([a_step(origin)])
        tx.reruns.put_input(origin.run_id, new, "charge", '{"args":[1],"kwargs":{}}')

    line = next(line for line in lines(store) if line["run"]["id"] == new)

    assert [(step["state"], step["input"]) for step in line["steps"]] == [("edited", {"args": [1], "kwargs": {}})]
