"""A long backlog is no loss: what waits its turn in the broker is not sent again and again. One worker, one slot."""

from collections.abc import Callable, Iterator

import pytest
from celery import Celery

from celeryflows import Event
from tests.celery.apps import works
from tests.waiting import eventually
from tests.workers import Worker
from tests.worlds import BRISK, World

MANY = 2_000


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


def held_up(app: Celery, world: World, gate: str) -> str:
    """A run that keeps the only slot until its gate opens."""
    slow = app.tasks["works.holds"].delay(gate=gate)
    eventually(lambda: world.status(slow.id) == "running", within=20)
    return str(slow.id)


def most_sends(world: World) -> int:
    return int(world.rows("SELECT max(sends) FROM flows_runs")[0][0])


def leader_has_looked(world: World) -> None:
    """It sweeps each second, and renews its lease each third."""
    [(epoch,)] = world.rows("SELECT epoch FROM flows_leader")
    eventually(lambda: world.rows("SELECT epoch FROM flows_leader") != [(epoch,)], within=20)


def test_runs_that_a_busy_worker_has_prefetched_are_sent_again_ever_less_often(
    app: Celery, world: World, worker: Worker
) -> None:
    held_up(app, world, "prefetched")
    quick = [app.tasks["works.quick"].delay() for _ in range(3)]
    # The queue looks empty meanwhile: at the age of 5 s, then of 10 more.
    world.age_messages(6)
    eventually(lambda: most_sends(world) == 1, within=20)
    leader_has_looked(world)
    assert most_sends(world) == 1
    world.age_messages(20)
    leader_has_looked(world)
    assert most_sends(world) <= 2
    world.open_gate("prefetched")
    for one in quick:
        assert one.get(timeout=40) == 1
    assert 3 <= taken(worker, "works.quick") <= 9


def test_two_thousand_runs_behind_a_slow_one_are_sent_once(app: Celery, world: World) -> None:
    held_up(app, world, "backlog")
    app.flows.send([Event("works/asked", {"n": n}) for n in range(MANY)])
    # Long past the age at which a message may count as lost.
    world.age_messages(25)
    leader_has_looked(world)
    with world.redis() as client:
        assert MANY <= client.llen("celery") + client.hlen("unacked") <= MANY + 5
    # The backlog itself need not be worked off to see that nothing of it was sent again.
    assert world.rows("SELECT max(sends) FROM flows_runs WHERE status = 'queued'") == [(0,)]
    world.open_gate("backlog")
