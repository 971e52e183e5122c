"""The state in the result backend follows the run's, whoever writes last. Real Redis, turns taken in place."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery

from celeryflows.celery_bridge.result_writer import ResultWriter
from celeryflows.engine.turn import take_turn
from tests.celery.apps import shop
from tests.worlds import World


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World]) -> World:
    return make_world("sqlite")


@pytest.fixture
def app(world: World) -> Celery:
    return world.app(shop.sheet)


def overtaken(app: Celery, monkeypatch: pytest.MonkeyPatch, end: Callable[[str], object]) -> str:
    """Suspend a run whose end comes between the suspension's commit and the word of it; the run's id."""
    runtime = app.flows.runtime
    told = runtime.dispatcher.run_suspended

    def late(run_id: str) -> bool:
        end(run_id)
        return told(run_id)

    run_id = app.tasks["shop.patient"].delay(key="overtaken").id
    with monkeypatch.context() as patch:
        patch.setattr(runtime.dispatcher, "run_suspended", late)
        take_turn(runtime, run_id)
    return run_id


def test_suspended_does_not_cover_the_failure_of_the_turn_that_followed(
    app: Celery, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(run_id: str) -> None:
        error = '{"name":"ValueError","message":"too late","stack":"","step_id":null}'
        world.rows("UPDATE flows_runs SET status = 'failed', error = :error WHERE id = :id", id=run_id, error=error)
        app.backend.mark_as_failure(run_id, ValueError("too late"))

    run_id = overtaken(app, monkeypatch, fail)
    assert app.AsyncResult(run_id).state == "FAILURE"
    assert "too late" in str(app.AsyncResult(run_id).result)


def test_suspended_does_not_cover_that_it_was_cancelled(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = overtaken(app, monkeypatch, lambda run_id: app.flows.run(run_id).cancel())
    assert app.AsyncResult(run_id).state == "REVOKED"


def test_suspended_does_not_cover_the_value(app: Celery, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def complete(run_id: str) -> None:
        world.rows("UPDATE flows_runs SET status = 'completed', output = '42' WHERE id = :id", id=run_id)
        app.backend.mark_as_done(run_id, 42)

    run_id = overtaken(app, monkeypatch, complete)
    assert app.AsyncResult(run_id).get(timeout=1) == 42


def test_a_backend_that_does_not_answer_holds_nobody_up(world: World) -> None:
    app = world.app(shop.sheet, result_backend="redis://127.0.0.1:1/0")
    writer, calls = ResultWriter(app), []

    def write(backend: Any) -> None:
        calls.append(backend)
        backend.store_result("r1", None, "SUSPENDED")

    began = time.monotonic()
    assert [writer.write("r1", write) for _ in range(20)] == [False] * 20
    assert time.monotonic() - began < 3
    # After a failure it is left alone for a while.
    assert len(calls) == 1
