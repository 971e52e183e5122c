"""Branches whose process or worker dies, or stops: they go on elsewhere at the step at hand, the others unharmed."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from celery import Celery
from celery.result import AsyncResult

from tests.acceptance.crew import Crew
from tests.celery.apps import spread
from tests.kinds import KINDS
from tests.waiting import eventually
from tests.worlds import BRISK, World

SOON = 40.0
STEPS = [f"{name}{n}" for name in "abc" for n in (1, 2, 3)]


@pytest.fixture(scope="module", params=KINDS)
def world(request: pytest.FixtureRequest, make_world: Callable[..., World]) -> World:
    return make_world(request.param, worker_disable_prefetch=True, **BRISK)


@pytest.fixture(scope="module")
def app(world: World) -> Celery:
    return world.app(spread.sheet)


@pytest.fixture
def crew(world: World) -> Iterator[Crew]:
    """Workers that end with the test."""
    with ExitStack() as stack:
        yield Crew(world, stack, "tests.celery.apps.spread")


def told_by(world: World, run_id: str) -> Counter[str]:
    """What the run's steps told, how often."""
    return Counter(line.removeprefix(f"{run_id} ") for line in world.lines() if line.startswith(run_id))


def held_at(app: Celery, world: World, gate: str) -> str:
    """A run of which one branch is held in its second step, and the others are done."""
    called = app.tasks["spread.sequences"].delay(gate=gate)
    done = {*STEPS} - {"a3"}
    eventually(lambda: set(told_by(world, called.id)) == done, within=SOON)
    ended = "SELECT count(*) FROM flows_branches WHERE run_id = :run AND status = 'completed'"
    eventually(lambda: world.rows(ended, run=called.id) == [(2,)], within=SOON)
    return called.id


def goes_on(app: Celery, world: World, run_id: str, gate: str) -> None:
    """The branch's second step is done again, and nothing else is."""
    world.told(f"{run_id} a2", times=2, within=SOON)
    world.open_gate(gate)
    assert AsyncResult(run_id, app=app).get(timeout=SOON) == [[f"{name}{n}" for n in (1, 2, 3)] for name in "abc"]
    assert told_by(world, run_id) == Counter([*STEPS, "a2"])


def test_a_killed_process_costs_a_branch_only_the_step_at_hand(app: Celery, world: World, crew: Crew) -> None:
    crew.hire("-c", "2")
    run_id = held_at(app, world, "killed")
    [child] = world.pids(f"{run_id} a2")
    os.kill(child, signal.SIGKILL)
    killed = time.monotonic()
    world.told(f"{run_id} a2", times=2, within=SOON)
    # Two looks, a second apart, and the way back through the queue.
    assert time.monotonic() - killed < 10
    goes_on(app, world, run_id, "killed")


def test_a_killed_worker_costs_a_branch_only_the_step_at_hand(app: Celery, world: World, crew: Crew) -> None:
    crew.hire_many(2, "-P", "threads", "-c", "2")
    run_id = held_at(app, world, "whole")
    crew.kill(crew.at_work_on(f"{run_id} a2"))
    goes_on(app, world, run_id, "whole")


def test_a_warm_shutdown_hands_branches_over_without_a_loss(app: Celery, world: World) -> None:
    with world.worker("tests.celery.apps.spread", "-c", "2") as leaving:
        called = app.tasks["spread.long"].delay()
        world.told(f"{called.id} a3", within=SOON)
        world.told(f"{called.id} b3", within=SOON)
        leaving.stop()
    assert world.status(called.id) == "suspended"
    states = world.rows("SELECT status, lost FROM flows_branches WHERE run_id = :run", run=called.id)
    assert states == [("queued", 0)] * 2
    with world.worker("tests.celery.apps.spread", "-c", "2"):
        assert called.get(timeout=SOON) == [60, 60]
    assert set(told_by(world, called.id).values()) == {1}
