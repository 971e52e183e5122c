"""What earlier versions stored: today's code replays each run of it, and takes an old store on to the same ends."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from celeryflows.clock import TurnedClock
from celeryflows.store.database import Store
from celeryflows.testing import check_history
from tests.corpus import FOLDER
from tests.corpus.played import FLOWS, declare, ends, go_on
from tests.engine.world import World

VERSIONS = sorted(path.stem for path in FOLDER.glob("*.sql"))


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


@pytest.mark.parametrize("when", ["open", "ended"])
@pytest.mark.parametrize("version", VERSIONS)
def test_todays_code_fits_each_run(world: World, version: str, when: str) -> None:
    declare(world)
    report = check_history(world.flows, FOLDER / f"{version}.{when}.jsonl")
    assert [run.flow for run in report if run.findings] == []
    assert {run.flow for run in report} >= set(FLOWS) - {"batched", "debounced", "throttled"}
    assert len(list(report)) > 30


def test_code_that_does_not_fit_would_be_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FLOWS, "tries", (lambda ctx: ctx.step.sleep("again", "1h"), {}))
    declare(world)
    report = check_history(world.flows, FOLDER / f"{VERSIONS[0]}.ended.jsonl")
    assert {run.flow for run in report if run.breaks} == {"tries"}


@pytest.mark.parametrize("version", VERSIONS)
def test_an_old_store_is_upgraded_and_its_runs_come_to_the_ends_that_they_had(version: str, tmp_path: Path) -> None:
    told: dict[str, Any] = json.loads((FOLDER / f"{version}.json").read_text())
    file = tmp_path / "store.sqlite3"
    with closing(sqlite3.connect(file)) as old:
        old.executescript((FOLDER / f"{version}.sql").read_text())
    store = Store(f"sqlite:///{file}", clock=TurnedClock(told["at"]))
    store.prepare()
    world = World(store)
    try:
        declare(world)
        world.start_worker()
        go_on(world)
        assert ends(world) == told["ends"]
    finally:
        world.close()
