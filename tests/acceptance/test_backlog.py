"""A long backlog is no loss: what waits its turn in the broker is not sent again and again. One worker, one slot."""

import time
from collections.abc import Callable, Iterator

import pytest
from celery import Celery

from celeryflows import Event
from tests.celery.apps import works
from tests.waiting import eventually
from tests.workers import Worker
from tests.worlds import BRISK, World

MANY = 2_000
# Long past the age at which a message may count as lost.
HELD = 11


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World]) -> World:
    return make_world("sqlite", **BRISK)


@pytest.fixture(scope="module", autouse=True)
def worker(world: World) -> Iterator[Worker]:
    with world.worker("tests.celery.apps.works", "-c", "1") as running:
        yield running


@pytest.fixture(scope="module")
def app(world: World) -> Celery:
    return world.app(works.sheet)


def taken(worker: Worker, flow: str = "") -> int:
    """The messages that the worker took."""
    return sum(f"Task {flow}" in line and line.endswith("] received") for line in worker.log.splitlines())


def test_runs_that_a_busy_worker_has_prefetched_are_sent_again_ever_less_often(
    app: Celery, world: World, worker: Worker
) -> None:
    slow = app.tasks["works.slow"].delay(seconds=HELD)
    eventually(lambda: world.status(slow.id) == "running")
    quick = [app.tasks["works.quick"].delay() for _ in range(3)]
    for one in quick:
        assert one.get(timeout=40) == 1
    # The queue looks empty meanwhile: at the age of 5 s, then of 10 more.
    assert max(row[0] for row in world.rows("SELECT sends FROM flows_runs")) <= 2
    assert 3 <= taken(worker, "works.quick") <= 9


def test_two_thousand_runs_behind_a_slow_one_are_sent_once(app: Celery, world: World) -> None:
    slow = app.tasks["works.slow"].delay(seconds=HELD)
    eventually(lambda: world.status(slow.id) == "running")
    app.flows.send([Event("works/asked", {"n": n}) for n in range(MANY)])
    most = 0
    with world.redis() as client:
        while world.status(slow.id) == "running":
            most = max(most, client.llen("celery") + client.hlen("unacked"))
            time.sleep(0.1)
    assert MANY <= most <= MANY + 5
    # The backlog itself need not be worked off to see that nothing of it was sent again.
    assert world.rows("SELECT max(sends) FROM flows_runs WHERE status = 'queued'") == [(0,)]
