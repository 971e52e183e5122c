"""Runs are started again by real workers: from a step, and many at a pace, whose leader is killed on the way."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from celery import Celery

from tests.acceptance.crew import Crew
from tests.celery.apps import again
from tests.kinds import KINDS
from tests.waiting import eventually
from tests.workers import ROOT
from tests.worlds import BRISK, World

APP = "tests.celery.apps.again"


@pytest.fixture(scope="module", params=KINDS)
def world(request: pytest.FixtureRequest, make_world: Callable[..., World]) -> World:
    return make_world(request.param, **BRISK)


@pytest.fixture(scope="module")
def crew(world: World) -> Iterator[Crew]:
    with ExitStack() as stack:
        crew = Crew(world, stack, APP)
        crew.hire("-c", "2")
        yield crew


@pytest.fixture(scope="module")
def app(world: World) -> Celery:
    return world.app(again.sheet)


def test_a_run_is_done_again_from_the_step_that_failed(app: Celery, world: World, crew: Crew) -> None:
    run = app.tasks["again.order"].delay(item="tea", card="bad")
    world.ends(run.id, "failed")

    new = app.flows.run(run.id).rerun(from_step="charge", input={"item": "tea", "card": "good"})

    assert new.get(timeout=30) == ["packed tea", "charged tea to good"]
    assert world.counts()["pack tea"] == 1
    assert new.events == app.flows.run(run.id).events


def test_a_paced_replay_goes_on_when_its_leader_is_killed_and_starts_each_run_once(
    app: Celery, world: World, crew: Crew
) -> None:
    items = [f"item{n}" for n in range(40)]
    runs = [app.tasks["again.batch"].delay(item=item).id for item in items]
    for run_id in runs:
        world.ends(run_id, "failed")
    world.open_gate("mended")
    first = crew.living[0]
    eventually(lambda: crew.leader() == first.pid)
    crew.hire("-c", "2")

    replay = app.flows.replay("again.batch", pace=10)
    eventually(lambda: replay.done >= 5)
    crew.kill(first)
    eventually(lambda: replay.ended_at, within=40)
    eventually(lambda: replay.runs == {"completed": len(items)}, within=40, every=0.1)

    assert (replay.total, replay.done) == (len(items), len(items))
    origins = world.rows("SELECT origin FROM flows_runs WHERE flow = 'again.batch' AND origin IS NOT NULL")
    assert sorted(row[0] for row in origins) == sorted(runs)


def test_the_command_follows_a_replay_to_its_end(app: Celery, world: World, crew: Crew) -> None:
    words = ["flows", "replay", "again.batch", "--status", "completed", "--pace", "50", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", APP, *words],
        cwd=ROOT,
        env={**os.environ, **world.env},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert (made["standing"], made["done"], made["total"]) == ("done", 40, 40)
