"""A server with no connection left, and many who wait: heartbeats and turns wait a moment and go on, none is lost."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any

import psycopg
import pytest

from celeryflows.engine.intake import send
from celeryflows.engine.turn import take_turn
from celeryflows.errors import StoreUnavailable
from celeryflows.model.events import Event
from celeryflows.model.flows import FlowDefinition
from celeryflows.model.triggers import OnEvent
from celeryflows.scheduler.sweeper import NoBroker
from celeryflows.scheduler.tick import Scheduler
from celeryflows.store.database import Store
from celeryflows.store.upgrade import upgrade
from celeryflows.store.workers import WorkerRow
from tests.conftest import without
from tests.engine.world import World
from tests.servers import Postgres, ServerMissing, running_postgres
from tests.store.making import FLOW, a_runtime, put_run, rows_of
from tests.waiting import eventually

PLACES = 12


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """With few places, none of them kept for its superuser."""
    try:
        with running_postgres(max_connections=str(PLACES), superuser_reserved_connections="0") as made:
            yield made
    except ServerMissing as missing:
        without(missing)


@pytest.fixture
def crowded(server: Postgres) -> Iterator[Store]:
    made = Store(server.url(server.create_database()), patience=20)
    upgrade(made)
    made.dispose()
    yield made
    made.dispose()


def take_all(server: Postgres, stack: ExitStack) -> None:
    """Somebody else takes every place that is free."""
    while True:
        try:
            stack.callback(server.connect().close)
        except psycopg.OperationalError:
            return


def a_scheduler(store: Store) -> Scheduler:
    runtime = a_runtime(store, {FLOW: lambda ctx: ctx.step.run("pack", lambda: 1)})
    row = WorkerRow(runtime.worker, "shop", "r", "host", 1, "threads", "celery")
    made = Scheduler(runtime, NoBroker(), row)
    made.start()
    return made


def test_heartbeat_send_and_turn_wait_for_a_place_and_go_on(server: Postgres, crowded: Store) -> None:
    scheduler = a_scheduler(crowded)
    runtime, run_id = scheduler.runtime, put_run(crowded)
    crowded.transact(lambda tx: tx.flows.put("shop", [FlowDefinition(FLOW, triggers=(OnEvent("shop/ordered"),))]))
    done: list[Any] = []
    works = [
        lambda: done.append(take_turn(runtime, run_id).status),
        lambda: done.extend(send(runtime, [Event("shop/ordered")])),
        lambda: done.append(crowded.transact(lambda tx: tx.workers.beat(runtime.worker))),
    ]
    crowded.dispose()
    threads = [threading.Thread(target=work) for work in works]
    with ExitStack() as others:
        take_all(server, others)
        for thread in threads:
            thread.start()
        with pytest.raises(psycopg.OperationalError, match=r"too many|remaining connection slots"):
            server.connect()
        # Without a place the leader waits for its next look, and declares nobody dead.
        scheduler.tick()
        assert not scheduler.leads
        assert done == []
    for thread in threads:
        thread.join(30)
    assert len(done) == 3
    assert "completed" in done
    assert eventually(lambda: scheduler.tick() or scheduler.leads)
    assert rows_of(crowded, "SELECT count(*) FROM flows_runs") == [(2,)]


def test_five_hundred_who_wait_for_a_run_starve_neither_it_nor_the_heartbeat(crowded: Store) -> None:
    world = World(crowded)
    world.flow(name="order", trigger="shop/ordered")(lambda ctx: ctx.step.run("pack", lambda: "packed"))
    row = WorkerRow(world.runtime.worker, "shop", world.release(), "host", 1, "threads", "celery")
    scheduler = Scheduler(world.runtime, NoBroker(), row)
    scheduler.start()
    world.flows.send("shop/ordered")
    run = world.only_run()
    began = rows_of(crowded, "SELECT beat_at FROM flows_workers")
    with ThreadPoolExecutor(500) as pool:
        waiting = [pool.submit(run.get, timeout=60) for _ in range(500)]

        def has_beaten() -> bool:
            scheduler.beat()
            return rows_of(crowded, "SELECT beat_at FROM flows_workers") > began

        eventually(has_beaten, within=30)
        eventually(lambda: _taken(world), within=30)
        assert {one.result(60) for one in waiting} == {"packed"}
    world.close()


def _taken(world: World) -> bool:
    with suppress(StoreUnavailable):
        world.drain()
    return world.only_run().status == "completed"
