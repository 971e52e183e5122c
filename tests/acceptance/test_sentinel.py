"""A broker behind Redis Sentinel, which promotes a replica that lacks the last writes: of the messages some are lost
and some come again, and each run comes to its one end. One real worker."""

from collections.abc import Callable, Iterator

import pytest
from celery import Celery

from celeryflows import Event
from celeryflows.celery_bridge.broker import CeleryBroker
from tests.celery.apps import works
from tests.sentinels import Watched, client, watched_redis
from tests.waiting import eventually
from tests.worlds import BRISK, World

SOON = 60.0


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    with watched_redis() as three:
        yield three


@pytest.fixture(scope="module")
def world(watched: Watched, make_world: Callable[..., World]) -> World:
    return make_world(
        redis=watched.master,
        broker_url=watched.url,
        result_backend=watched.url,
        broker_transport_options=watched.options,
        result_backend_transport_options=watched.options,
        worker_disable_prefetch=True,
        **BRISK,
    )


@pytest.fixture(scope="module")
def app(world: World) -> Celery:
    return world.app(works.sheet)


def send(app: Celery, numbers: range) -> None:
    app.flows.send([Event("works/asked", {"n": n}) for n in numbers])


def hold(app: Celery, world: World, gate: str) -> None:
    """The only process is at work until the gate opens."""
    called = app.tasks["works.holds"].delay(gate=gate)
    world.told(f"{called.id} holds", within=SOON)


def completed(world: World) -> int:
    return int(world.rows("SELECT count(*) FROM flows_runs WHERE status = 'completed'")[0][0])


@pytest.mark.timeout(180)
def test_runs_end_once_each_though_the_promoted_replica_lacks_the_last_writes(
    app: Celery, world: World, watched: Watched
) -> None:
    with world.worker("tests.celery.apps.works", "-c", "1"):
        hold(app, world, "first")
        send(app, range(10))
        with client(watched.replica) as replica:
            eventually(lambda: replica.llen("celery") >= 10)
            watched.cut_replication()
            world.open_gate("first")
            # These are done: the replica has their messages yet.
            eventually(lambda: completed(world) == 11, within=SOON)
            hold(app, world, "second")
            # Of these the replica has heard nothing.
            send(app, range(10, 30))
            assert replica.llen("celery") >= 10
        watched.lose_master()
        called = app.tasks["works.quick"].delay()
        world.open_gate("second")
        eventually(lambda: completed(world) == 33, within=SOON)
        assert called.get(timeout=SOON) == 1
        with client(watched.replica) as promoted:
            eventually(lambda: promoted.llen("celery") == 0, within=SOON)
    assert sum(world.counts().values()) == len(world.counts()) == 32
    broker = CeleryBroker(app, "works")
    assert (broker.epoch(), broker.length("celery")) == (world.rows(EPOCH)[0][0], 0)
    broker.close()


EPOCH = "SELECT value FROM flows_meta WHERE key = 'broker_epoch'"
