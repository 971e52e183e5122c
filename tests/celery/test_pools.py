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
    with made.worker("tests.celery.apps.pools", "-P", pool, "-c", "4"):
        yield made


@pytest.fixture(scope="module")
def app(world: World) -> Celery:
    return world.app(pools.sheet)


def test_ten_steps_run_once_each(app: Celery, world: World) -> None:
    assert app.tasks["pools.ten"].delay().get(timeout=SOON) == 45
    assert all(world.counts()[f"number {i}"] == 1 for i in range(10))


def test_a_flow_that_sleeps_goes_on(app: Celery) -> None:
    assert app.tasks["pools.sleeper"].delay().get(timeout=SOON) == 3


def test_async_flows_run_their_steps_at_once_also_side_by_side(app: Celery, pool: str) -> None:
    began = time.monotonic()
    many = [app.tasks["pools.at_once"].delay() for _ in range(1 if pool == "solo" else 3)]
    assert [one.get(timeout=SOON) for one in many] == [[1, 2, None, 3]] * len(many)
    # One after another the steps of one alone take 1.2 s; of three 3.6 s.
    assert time.monotonic() - began < 3.5


def test_the_worker_is_entered_with_its_pool(world: World, pool: str) -> None:
    entered = {"prefork": "prefork", "threads": "thread", "solo": "solo", "gevent": "gevent"}[pool]
    assert world.rows("SELECT pool FROM flows_workers") == [(entered,)]
