"""Runs that batches made leave the store with all their events, and are checked against today's code with them."""

import json
from pathlib import Path
from typing import Any

import pytest

from celeryflows import Batch, Event
from celeryflows.console.history import export
from celeryflows.testing import check_history
from tests.engine.world import Process, World

BATCH = Batch(3, "10s", key="event.data.of")


def newer(world: World, word: str) -> Process:
    """The code of the next deploy: a step for each event of the batch, named by the word."""
    process = world.process()

    @process.flow(name="shop.store", trigger="log/line", batch=BATCH)
    def keep(ctx: Any) -> Any:
        for event in ctx.events:
            ctx.step.run(f"{word} {event.data['n']}", never)
        return len(ctx.events)

    return process


def never(*_: Any) -> None:
    raise AssertionError("a step was done")


@pytest.fixture
def recorded(turned: World) -> World:
    """Two runs, of three events and of two."""

    @turned.flow(name="shop.store", trigger="log/line", batch=BATCH)
    def keep(ctx: Any) -> Any:
        for event in ctx.events:
            ctx.step.run(f"keep {event.data['n']}", int)
        return len(ctx.events)

    turned.start_worker()
    turned.send([Event("log/line", {"n": n, "of": "ab"[n % 2]}) for n in range(5)])
    turned.advance("10s")
    assert sorted(run.output for run in turned.runs()) == [2, 3]
    return turned


def test_an_export_has_all_events_of_a_batch_in_the_order_of_the_handler(recorded: World) -> None:
    lines = [json.loads(line) for line in export(recorded.runtime)]
    seen = {line["run"]["output"]: [event["data"]["n"] for event in line["events"]] for line in lines}
    assert seen == {3: [0, 2, 4], 2: [1, 3]}
    assert all(line["event"] == line["events"][0] for line in lines)


def test_a_run_of_one_event_has_no_list_of_events(turned: World) -> None:
    turned.flow(name="shop.order", trigger="shop/ordered")(lambda ctx: None)
    turned.send("shop/ordered")
    assert ["events" in json.loads(line) for line in export(turned.runtime)] == [False]


def test_the_same_code_fits_and_other_steps_are_told_from_store_and_file(recorded: World, tmp_path: Path) -> None:
    file = tmp_path / "histories.jsonl"
    file.write_text("".join(f"{line}\n" for line in export(recorded.runtime)))
    same, other = newer(recorded, "keep"), newer(recorded, "drop")
    for source in (None, file):
        assert check_history(same.flows, source).differences == ()
        told = {finding.step for run in check_history(other.flows, source) for finding in run.findings}
        assert told == {"drop 0", "drop 1"}
