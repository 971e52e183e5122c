"""A worker that leaves: what its pool was killed over is handed back and counted as no loss, by a busy store too."""

import pytest

from celeryflows.scheduler.sweeper import NoBroker
from celeryflows.scheduler.tick import Scheduler
from celeryflows.store.connection import TransientError
from celeryflows.store.workers import WorkerRow
from tests.engine.world import World

STANDS = "SELECT status, lost, worker FROM flows_runs"


def at_work(world: World) -> Scheduler:
    """A worker whose pool ran a turn and whose process is gone: the store says that it runs."""
    world.flow(name="shop.order", trigger="shop/ordered")(lambda ctx: None)
    row = WorkerRow(world.runtime.worker, "shop", world.release(), "host", 1, "prefork", "celery")
    scheduler = Scheduler(world.runtime, NoBroker(), row)
    scheduler.start()
    world.flows.send("shop/ordered")
    world.broker.waiting.clear()
    with world.store.connection() as connection:
        [(run_id,)] = connection.execute("SELECT id FROM flows_runs")
        assert connection.runs.claim(run_id, world.runtime.worker, 1) is not None
    return scheduler


def looks(world: World, scheduler: Scheduler) -> None:
    """It looks for lost processes until one that is lost would be found."""
    for _ in range(3):
        world.clock.turn(1_000_000)
        scheduler.beat()


def test_while_a_worker_drains_a_process_that_dies_is_a_loss(turned: World) -> None:
    scheduler = at_work(turned)
    looks(turned, scheduler)
    assert turned.store_rows(STANDS) == [("queued", 1, None)]
    assert len(turned.broker.waiting) == 1


def test_a_process_that_a_shutdown_kills_is_no_loss_and_its_run_is_handed_back(turned: World) -> None:
    scheduler = at_work(turned)
    scheduler.expect_kills()
    looks(turned, scheduler)
    assert turned.store_rows(STANDS) == [("running", 0, turned.runtime.worker)]
    scheduler.stop()
    assert turned.store_rows(STANDS) == [("queued", 0, None)]
    assert len(turned.broker.waiting) == 1
    assert turned.store_rows("SELECT id FROM flows_workers") == []


@pytest.mark.parametrize("busy", [3, 1000])
def test_a_worker_that_leaves_asks_a_busy_store_again(
    turned: World, caplog: pytest.LogCaptureFixture, busy: int
) -> None:
    scheduler = at_work(turned)
    left = [busy]

    def refuse(sql: str) -> None:
        if "WHERE worker = " in sql and left[0]:
            left[0] -= 1
            raise TransientError("the store is busy")

    turned.store.observer = refuse
    scheduler.stop()
    turned.store.observer = None
    if busy == 3:
        assert turned.store_rows(STANDS) == [("queued", 0, None)]
        assert len(turned.broker.waiting) == 1
    else:
        assert turned.store_rows(STANDS) == [("running", 0, turned.runtime.worker)]
        assert "left to recovery" in caplog.text
