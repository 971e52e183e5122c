"""Deploys: a worker that is told to end hands its runs over at the next step, counts nothing, and goes soon."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from celery import Celery

from tests.acceptance.crew import Crew
from tests.celery.apps import works
from tests.waiting import eventually
from tests.worlds import World

SOON = 30.0


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World]) -> World:
    # The ordinary times of recovery: nothing here may wait for a silence of 20 s.
    return make_world("postgres")


@pytest.fixture(scope="module")
def crew(world: World) -> Iterator[Crew]:
    with ExitStack() as stack:
        yield Crew(world, stack, "tests.celery.apps.works")


@pytest.fixture(scope="module")
def app(world: World) -> Celery:
    return world.app(works.sheet)


def as_if_never_started(world: World, run_id: str) -> bool:
    """Queued again, and nothing was counted against it."""
    return world.rows("SELECT status, lost, attempt FROM flows_runs WHERE id = :id", id=run_id) == [("queued", 0, 0)]


def each_step_once(world: World, run_id: str) -> bool:
    told = [line for line in world.lines() if line.startswith(f"{run_id} step ")]
    return sorted(told) == sorted(f"{run_id} step {i}" for i in range(100))


def test_a_warm_shutdown_hands_over_at_the_next_step(app: Celery, world: World, crew: Crew) -> None:
    leaving = crew.hire("-c", "1")
    called = app.tasks["works.many"].delay()
    world.told(f"{called.id} step 5")
    began = time.monotonic()
    assert leaving.stop() == 0
    # Five seconds of steps were left.
    assert time.monotonic() - began < 4
    assert as_if_never_started(world, called.id)
    assert crew.entered() == []
    crew.living.remove(leaving)
    crew.hire("-c", "1")
    assert called.get(timeout=SOON) == 100
    assert each_step_once(world, called.id)


def test_a_cold_shutdown_hands_over_the_step_at_hand(app: Celery, world: World, crew: Crew) -> None:
    [leaving] = crew.living
    called = app.tasks["works.three"].delay(gate="cold")
    world.told(f"{called.id} second")
    leaving.signal(signal.SIGQUIT)
    leaving.wait_end()
    crew.living.remove(leaving)
    assert as_if_never_started(world, called.id)
    assert crew.entered() == []
    crew.hire("-c", "1", worker_soft_shutdown_timeout=3)
    world.told(f"{called.id} second", times=2)
    world.open_gate("cold")
    assert called.get(timeout=SOON)[2].startswith("third")
    assert [step.attempts for step in app.flows.run(called.id).steps] == [1, 1, 1]


def test_a_soft_shutdown_hands_over_at_the_next_step_too(app: Celery, world: World, crew: Crew) -> None:
    [leaving] = crew.living
    called = app.tasks["works.many"].delay()
    world.told(f"{called.id} step 5")
    leaving.signal(signal.SIGQUIT)
    eventually(lambda: as_if_never_started(world, called.id), within=2.5)
    leaving.wait_end()
    crew.living.remove(leaving)
    crew.hire("-c", "1")
    assert called.get(timeout=SOON) == 100
    assert each_step_once(world, called.id)
