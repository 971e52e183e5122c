"""What a caller gets through Celery: values, errors, states. One real worker for each kind of store."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult

from celeryflows import Event, RunCancelled, StepError
from tests.celery.apps import shop
from tests.kinds import KINDS
from tests.waiting import eventually
from tests.worlds import World

APP = "tests.celery.apps.shop"
SOON = 15.0


@pytest.fixture(scope="module", params=KINDS)
def world(request: pytest.FixtureRequest, make_world: Callable[..., World]) -> Iterator[World]:
    made = make_world(request.param)
    with made.worker(APP, "-c", "2"):
        yield made


@pytest.fixture(scope="module")
def app(world: World) -> Celery:
    return world.app(shop.sheet)


def result(app: Celery, run_id: str) -> AsyncResult:
    """As a process sees it that has only the id."""
    return AsyncResult(run_id, app=app)


def test_delay_starts_a_run_and_gives_its_value(app: Celery) -> None:
    called = app.tasks["shop.double"].delay(value=4)
    assert called.get(timeout=SOON) == 8
    assert result(app, called.id).state == "SUCCESS"
    assert app.flows.run(called.id).output == 8


@pytest.mark.parametrize(
    ("args", "kwargs", "data"),
    [
        (({"a": 1},), {}, {"a": 1}),
        (({"a": 1},), {"a": 2, "b": 3}, {"a": 2, "b": 3}),
        ((7,), {"b": 3}, {"value": 7, "b": 3}),
        ((Event("shop/called", {"x": [1]}),), {}, {"x": [1]}),
        ((), {}, {}),
    ],
)
def test_what_is_passed_is_the_events_data(app: Celery, args: Any, kwargs: Any, data: Any) -> None:
    assert app.tasks["shop.echo"].delay(*args, **kwargs).get(timeout=SOON) == data


def test_a_run_that_slept_gives_its_value_to_who_asked_before(app: Celery) -> None:
    assert app.tasks["shop.slow_double"].delay(value=5).get(timeout=SOON) == 10


def test_a_sleeping_run_reads_suspended_until_it_ends(app: Celery) -> None:
    called = app.tasks["shop.patient"].delay(key="k1")
    eventually(lambda: result(app, called.id).state == "SUSPENDED")
    app.flows.send("shop/go", {"key": "k1", "answer": 42})
    assert result(app, called.id).get(timeout=SOON) == 42


def test_a_failed_run_raises_its_step_error_for_the_caller(app: Celery) -> None:
    called = app.tasks["shop.failing"].delay()
    with pytest.raises(StepError, match="no stock") as raised:
        called.get(timeout=SOON)
    assert (raised.value.step_id, raised.value.name) == ("reserve", "NonRetriableError")
    assert result(app, called.id).state == "FAILURE"


def test_a_cancelled_run_reads_revoked(app: Celery) -> None:
    called = app.tasks["shop.patient"].delay(key="never")
    eventually(lambda: called.state == "SUSPENDED")
    assert app.flows.run(called.id).cancel("no longer wanted")
    with pytest.raises(TaskRevokedError):
        result(app, called.id).get(timeout=SOON)


def test_a_skipped_run_reads_revoked(app: Celery) -> None:
    app.flows.send([Event("shop/ordered", {"name": "Ann"}, id="o1"), Event("shop/ordered", {"name": "Ann"}, id="o1")])
    [skipped] = app.flows.runs(flow="shop.ordered", status="skipped")
    with pytest.raises(TaskRevokedError):
        result(app, skipped.id).get(timeout=SOON)


def test_a_run_that_an_event_started_has_a_result_too(app: Celery) -> None:
    [event] = app.flows.send("shop/ordered", {"name": "Bo"})
    run = eventually(lambda: [r for r in app.flows.runs(flow="shop.ordered") if r.event_id == event])[0]
    assert result(app, run.id).get(timeout=SOON) == "thanks, Bo"


def test_a_countdown_delays_the_start_without_an_eta_message(app: Celery, world: World) -> None:
    called = app.tasks["shop.double"].apply_async(kwargs={"value": 1}, countdown=1)
    assert world.status(called.id) == "scheduled"
    began = time.monotonic()
    assert called.get(timeout=SOON) == 2
    assert time.monotonic() - began > 0.8


def test_an_eta_delays_the_start(app: Celery, world: World) -> None:
    eta = datetime.now(UTC) + timedelta(hours=1)
    called = app.tasks["shop.double"].apply_async(kwargs={"value": 1}, eta=eta)
    assert world.rows("SELECT status, wake_at FROM flows_runs WHERE id = :id", id=called.id) == [
        ("scheduled", int(eta.timestamp() * 1e6))
    ]
    called.revoke()


def test_a_run_that_expired_before_it_started_reads_revoked(app: Celery) -> None:
    called = app.tasks["shop.double"].apply_async(kwargs={"value": 1}, countdown=3600, expires=1)
    with pytest.raises(TaskRevokedError):
        called.get(timeout=SOON)
    assert app.flows.run(called.id).reason == "expired before it started"


def test_the_same_task_id_twice_is_one_run(app: Celery, world: World) -> None:
    first = app.tasks["shop.double"].apply_async(kwargs={"value": 111}, task_id="order-111")
    assert first.get(timeout=SOON) == 222
    second = app.tasks["shop.double"].apply_async(kwargs={"value": 999}, task_id="order-111")
    assert (first.id, second.id) == ("order-111", "order-111")
    assert second.get(timeout=SOON) == 222
    assert world.counts()["times_two 111"] == 1
    assert world.counts()["times_two 999"] == 0


def test_revoking_what_delay_gave_cancels_the_run(app: Celery) -> None:
    called = app.tasks["shop.patient"].delay(key="revoked")
    eventually(lambda: called.state == "SUSPENDED")
    called.revoke()
    assert app.flows.run(called.id).status == "cancelled"
    with pytest.raises(RunCancelled, match="revoked"):
        app.flows.run(called.id).get(timeout=SOON)


def test_revoking_by_the_bare_id_cancels_a_sleeping_run(app: Celery) -> None:
    called = app.tasks["shop.patient"].delay(key="revoked by id")
    eventually(lambda: called.state == "SUSPENDED")
    result(app, called.id).revoke()
    with pytest.raises(RunCancelled, match="revoked"):
        app.flows.run(called.id).get(timeout=SOON)


def test_terminate_ends_the_step_at_work(app: Celery, world: World) -> None:
    called = app.tasks["shop.gated"].delay(gate="never opened")
    world.told(f"gated {called.id}")
    [child] = world.pids(f"gated {called.id}")
    called.revoke(terminate=True, signal="SIGKILL")
    eventually(lambda: not is_alive(child))
    with pytest.raises(TaskRevokedError):
        result(app, called.id).get(timeout=SOON)
    assert app.flows.run(called.id).status == "cancelled"


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
