"""Redis forgets, dies, hangs and comes back empty: no accepted event is lost, no sender waits long. One real worker."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from celery import Celery

from celeryflows import Event
from tests.celery.apps import works
from tests.kinds import KINDS
from tests.servers import Redis, running_redis
from tests.waiting import eventually
from tests.workers import Worker
from tests.worlds import BRISK, World

SOON = 30.0
# A sender tells nobody but the store; what it does for the broker is bounded by the client's time-outs.
AT_ONCE = 3.5


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    with running_redis() as server:
        yield server


@pytest.fixture(scope="module", params=KINDS)
def world(request: pytest.FixtureRequest, redis: Redis, make_world: Callable[..., World]) -> World:
    # kombu 5.7 may end a worker that loses its broker while it holds messages: here it holds none.
    return make_world(request.param, redis, worker_disable_prefetch=True, **BRISK)


@pytest.fixture(scope="module", autouse=True)
def worker(world: World) -> Iterator[Worker]:
    with world.worker("tests.celery.apps.works", "-c", "1") as running:
        yield running


@pytest.fixture(scope="module")
def app(world: World) -> Celery:
    return world.app(works.sheet)


@contextmanager
def hold_the_only_slot(app: Celery, world: World, gate: str) -> Iterator[None]:
    """Meanwhile nothing else runs, and no message is taken."""
    called = app.tasks["works.holds"].delay(gate=gate)
    world.told(f"{called.id} holds", within=SOON)
    try:
        yield
    finally:
        world.open_gate(gate)


def all_completed(world: World) -> bool:
    return world.rows("SELECT count(*) FROM flows_runs WHERE status NOT IN ('completed', 'cancelled')") == [(0,)]


def queued(world: World) -> int:
    return int(world.rows("SELECT count(*) FROM flows_runs WHERE status = 'queued'")[0][0])


def test_runs_whose_messages_were_flushed_complete(app: Celery, world: World) -> None:
    with hold_the_only_slot(app, world, "flushed"):
        app.flows.send([Event("works/asked", {"n": n}) for n in range(40)])
        with world.redis() as client:
            # On a slow machine one may have been sent twice already.
            assert client.llen("celery") >= 40
            client.flushall()
        assert queued(world) == 40
    eventually(lambda: all_completed(world), within=SOON)
    assert sum(world.counts().values()) == len(world.counts()) == 41
    with world.redis() as client:
        # What keeps a process with another store away is there again.
        eventually(lambda: client.get("celeryflows:store:works"))


def test_runs_in_a_broker_that_comes_back_empty_complete(app: Celery, world: World, redis: Redis) -> None:
    with hold_the_only_slot(app, world, "restarted"):
        app.flows.send([Event("works/asked", {"n": n}) for n in range(40)])
        redis.server.kill()
        redis.start()
        assert queued(world) == 40
    eventually(lambda: all_completed(world), within=60)
    assert sum(world.counts().values()) == len(world.counts()) == 82


def test_senders_do_not_wait_for_a_dead_broker_and_their_runs_start_when_it_is_back(
    app: Celery, world: World, redis: Redis
) -> None:
    redis.server.kill()
    try:
        began = time.monotonic()
        app.flows.send("works/asked", {"n": "while it is down"})
        assert time.monotonic() - began < AT_ONCE
        began = time.monotonic()
        called = app.tasks["works.quick"].delay()
        cancelled = app.tasks["works.naps"].apply_async(countdown=3600)
        assert app.flows.run(cancelled.id).cancel()
        assert time.monotonic() - began < AT_ONCE
        assert queued(world) == 2
    finally:
        redis.start()
    assert app.flows.run(called.id).get(timeout=60) == 1
    eventually(lambda: all_completed(world), within=SOON)
    assert sum(world.counts().values()) == len(world.counts()) == 83


def test_senders_do_not_wait_for_a_broker_that_hangs(app: Celery, world: World, redis: Redis) -> None:
    os.kill(redis.server.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        app.flows.send("works/asked", {"n": "while it hangs"})
        assert time.monotonic() - began < AT_ONCE
    finally:
        os.kill(redis.server.pid, signal.SIGCONT)
    eventually(lambda: all_completed(world), within=SOON)
    assert sum(world.counts().values()) == len(world.counts()) == 84
