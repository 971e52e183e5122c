"""kill -9 of a pool's process: its own worker queues the run again within seconds. One real prefork worker."""

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest
from celery import Celery
from celery.result import AsyncResult

from celeryflows import RunFailed, StepError
from tests.celery.apps import works
from tests.kinds import KINDS
from tests.workers import Worker
from tests.worlds import BRISK, World

SOON = 25.0


@pytest.fixture(scope="module", params=KINDS)
def world(request: pytest.FixtureRequest, make_world: Callable[..., World]) -> World:
    return make_world(request.param, flows_max_lost=5, **BRISK)


@pytest.fixture(scope="module", autouse=True)
def worker(world: World) -> Iterator[Worker]:
    with world.worker("tests.celery.apps.works", "-c", "2") as running:
        yield running


@pytest.fixture(scope="module")
def app(world: World) -> Celery:
    return world.app(works.sheet)


def test_a_step_whose_process_is_killed_runs_again_and_those_before_it_do_not(app: Celery, world: World) -> None:
    called = app.tasks["works.three"].delay(gate="killed")
    world.told(f"{called.id} second")
    [child] = world.pids(f"{called.id} second")
    [before] = [step.value for step in app.flows.run(called.id).steps]
    os.kill(child, signal.SIGKILL)
    killed = time.monotonic()
    world.told(f"{called.id} second", times=2)
    # Two looks, a second apart, and the way back through the queue.
    assert time.monotonic() - killed < 4
    world.open_gate("killed")
    assert app.flows.run(called.id).get(timeout=SOON)[0] in before
    counts = world.counts()
    assert [counts[f"{called.id} {step}"] for step in ("first", "second", "third")] == [1, 2, 1]


def test_a_loss_is_no_attempt_of_the_step(app: Celery, world: World) -> None:
    [(run_id,)] = world.rows("SELECT id FROM flows_runs WHERE flow = 'works.three'")
    assert [step.attempts for step in app.flows.run(run_id).steps] == [1, 1, 1]


def test_a_process_killed_right_after_a_steps_commit_does_not_run_it_again(app: Celery, world: World) -> None:
    called = app.tasks["works.dies_after_a_step"].delay()
    value = app.flows.run(called.id).get(timeout=SOON)
    assert world.counts()[f"{called.id} first"] == 1
    # What was recorded is what the one execution made.
    assert f"by {world.pids(f'{called.id} first')[0]} at" in value


def test_a_caller_gets_the_value_though_the_process_was_killed(app: Celery) -> None:
    called = app.tasks["works.dies_after_a_step"].delay()
    assert AsyncResult(called.id, app=app).get(timeout=SOON).startswith("first by")


@pytest.fixture(scope="module")
def deaths(app: Celery) -> dict[str, str]:
    """Runs that kill their process each time, side by side."""
    return {name: app.tasks[f"works.{name}"].delay().id for name in ("poison", "deadly")}


def test_a_poison_step_ends_failed_after_its_retries_and_on_failure_runs(
    app: Celery, world: World, deaths: dict[str, str]
) -> None:
    run = deaths["poison"]
    # RunFailed when a redelivered message of the dead process tells the end once more.
    with pytest.raises((StepError, RunFailed), match="the worker died each time"):
        AsyncResult(run, app=app).get(timeout=60)
    world.told(f"failed {run} poisoned")
    counts = world.counts()
    assert counts[f"{run} before"] == 1
    # The first loss is free: one attempt more than retries=2 allows a step that raises.
    assert counts[f"{run} poisoned"] == 4
    assert counts[f"failed {run} poisoned"] == 1


def test_a_body_that_kills_its_process_ends_failed_after_so_many_losses(
    app: Celery, world: World, deaths: dict[str, str]
) -> None:
    run = deaths["deadly"]
    with pytest.raises(RunFailed, match="its worker died 5 times"):
        AsyncResult(run, app=app).get(timeout=60)
    world.told(f"failed {run} None")
    assert world.counts()[f"{run} deadly"] == 5
    assert world.counts()[f"failed {run} None"] == 1


def test_a_worker_goes_on_after_all_its_processes_were_killed(app: Celery, worker: Worker) -> None:
    for child in worker.children:
        os.kill(child, signal.SIGKILL)
    assert app.tasks["works.quick"].delay().get(timeout=SOON) == 1
