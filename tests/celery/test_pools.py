"""Every pool of Celery's carries every kind of flow. One real worker for each pool."""

import time
from collections.abc import Callable, Iterator

import pytest
from celery import Celery

from tests.celery.apps import pools
from tests.worlds import World

SOON = 20.0


@pytest.fixture(scope="module", params=["prefork", "threads", "solo", "gevent"])
def pool(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def world(pool: str, make_world: Callable[..., World]) -> Iterator[World]:
    made = make_world("postgres" if pool in ("gevent", "threads") else "sqlite")
    with made.worker("tests.celery.apps.pools", "-P", pool, "-c", "4") as worker:
        yield made
        # Bodies that were left running still run, and hold nobody up.
        began = time.monotonic()
        assert worker.stop() == 0
        assert time.monotonic() - began < 10


@pytest.fixture(scope="module")
def app(world: World) -> Celery:
    return world.app(pools.sheet)


def test_ten_steps_run_once_each(app: Celery, world: World) -> None:
    assert app.tasks["pools.ten"].delay().get(timeout=SOON) == 45
    assert all(world.counts()[f"number {i}"] == 1 for i in range(10))


def test_a_flow_that_sleeps_goes_on(app: Celery) -> None:
    assert app.tasks["pools.sleeper"].delay().get(timeout=SOON) == 3


def test_an_async_flow_runs_its_steps_at_once(app: Celery) -> None:
    called = app.tasks["pools.at_once"].delay()
    assert called.get(timeout=SOON) == [1, 2, None, 3]
    # Each takes 0.3 s: one after another the first and the last end 0.6 s apart.
    ended = [step.ended_at for step in app.flows.run(called.id).steps if step.id in ("a", "b", "c")]
    assert max(ended) - min(ended) < 250_000


def test_branches_that_take_their_time_run_at_once(app: Celery, world: World, pool: str) -> None:
    called = app.tasks["pools.grouped"].delay()
    assert called.get(timeout=SOON) == 148
    assert all(world.counts()[f"number {i}"] == 1 for i in (*range(10, 20), 148))
    if pool != "solo":
        slow = [step.ended_at for step in app.flows.run(called.id).steps if step.id.endswith("/slow")]
        assert max(slow) - min(slow) < 450_000


def test_async_flows_side_by_side_do_not_disturb_each_other(app: Celery, world: World) -> None:
    many = [app.tasks["pools.at_once"].delay() for _ in range(3)]
    assert [one.get(timeout=SOON) for one in many] == [[1, 2, None, 3]] * 3
    assert world.rows("SELECT max(attempt) FROM flows_runs WHERE flow = 'pools.at_once'") == [(0,)]


def test_a_step_that_outlives_its_timeout_is_left_and_tried_again(app: Celery) -> None:
    assert app.tasks["pools.timed"].delay().get(timeout=SOON) == ["in time", "StepTimeout", "4"]


def test_steps_of_async_flows_are_left_at_their_timeouts(app: Celery) -> None:
    called = app.tasks["pools.timed_at_once"].delay()
    assert called.get(timeout=SOON) == ["StepTimeout", "StepTimeout", "int"]


def test_turns_of_a_durable_task_side_by_side_keep_to_themselves(app: Celery, world: World) -> None:
    many = [app.tasks["pools.process"].delay(order=n) for n in range(1000, 1060, 10)]
    assert [one.get(timeout=SOON) for one in many] == [[n, n + 1, n] for n in range(1000, 1060, 10)]
    assert all(world.counts()[f"number {n + k}"] == 1 for n in range(1000, 1060, 10) for k in (0, 1))


def test_a_limited_task_is_called_and_triggered(app: Celery) -> None:
    many = [app.tasks["pools.limited"].delay(n % 2) for n in range(6)]
    assert [one.get(timeout=SOON) for one in many] == [0, 1, 0, 1, 0, 1]
    app.flows.send("pools/number", {"n": 5})
    [run] = app.flows.runs(flow="pools.limited", event="pools/number")
    assert app.flows.run(run.id).get(timeout=SOON) == 5


def test_the_worker_is_entered_with_its_pool(world: World, pool: str) -> None:
    entered = {"prefork": "prefork", "threads": "thread", "solo": "solo", "gevent": "gevent"}[pool]
    assert world.rows("SELECT pool FROM flows_workers") == [(entered,)]
