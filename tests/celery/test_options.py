"""Celery's own options and Flask's factory with flows: time limits, rate limits, base classes. One real worker."""

import time
from collections.abc import Callable, Iterator

import pytest
from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded

from celeryflows import StepError
from tests.celery.apps import flask_shop
from tests.waiting import eventually
from tests.workers import Worker
from tests.worlds import BRISK, World

SOON = 20.0


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World]) -> World:
    return make_world("sqlite", **BRISK)


@pytest.fixture(scope="module")
def worker(world: World) -> Iterator[Worker]:
    with world.worker("tests.celery.apps.flask_shop", "-c", "2") as running:
        yield running


@pytest.fixture(scope="module")
def app(world: World, worker: Worker) -> Celery:
    return world.keep(flask_shop.create_app(world.settings).extensions["celery"])


def test_flasks_task_class_opens_its_context_for_every_turn(app: Celery) -> None:
    assert app.tasks["flask.greeting"].delay().get(timeout=SOON) == "hello, hello"


def test_celerys_rate_limit_holds_for_a_flow(app: Celery, worker: Worker) -> None:
    assert app.tasks["flask.limited"].rate_limit == "10/m"
    first, second = (app.tasks["flask.limited"].delay() for _ in range(2))
    began = time.monotonic()
    first.get(timeout=SOON)
    second.get(timeout=SOON)
    # Ten a minute is one each six seconds, by Celery's token bucket on this worker.
    assert time.monotonic() - began > 5


def test_a_flow_with_ignore_result_runs_and_stores_no_result(app: Celery) -> None:
    called = app.tasks["flask.unanswered"].delay()
    assert app.flows.run(called.id).get(timeout=SOON) == "nobody asks"
    assert app.backend.get_state(called.id) == "PENDING"


def test_options_and_hooks_of_a_base_class_hold_for_a_flow(app: Celery, worker: Worker) -> None:
    assert app.tasks["flask.audited"].tenant == "blue"
    called = app.tasks["flask.audited"].delay()
    assert called.get(timeout=SOON) == "done"
    eventually(lambda: f"audited {called.id} blue" in worker.log)
    assert worker.log.count(f"audited {called.id}") == 1


def test_a_flow_of_many_steps_outlives_its_time_limit(app: Celery, world: World) -> None:
    called = app.tasks["flask.bounded"].delay()
    assert app.flows.run(called.id).get(timeout=SOON) == "all"
    assert world.rows("SELECT turn > 2 FROM flows_runs WHERE id = :id", id=called.id)[0][0]


def test_a_soft_time_limit_is_the_steps_error(app: Celery) -> None:
    with pytest.raises(StepError) as raised:
        app.tasks["flask.stuck"].delay().get(timeout=SOON)
    assert raised.value.name == SoftTimeLimitExceeded.__name__


def test_a_hard_time_limit_is_a_lost_process_and_the_caller_gets_the_value(app: Celery, worker: Worker) -> None:
    called = app.tasks["flask.killed"].delay()
    assert called.get(timeout=SOON) == "in the end"
    assert "Hard time limit" in worker.log
