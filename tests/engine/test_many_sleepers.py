"""Hundreds that sleep or wait cost the leader's look nothing; when all are due at once, one connection wakes them, in
pieces."""

from typing import Any

import pytest

from celeryflows import Event
from celeryflows.engine import resume
from celeryflows.scheduler.sweeper import NoBroker
from celeryflows.scheduler.tick import BATCHES_A_TICK, Scheduler
from celeryflows.store.workers import WorkerRow
from tests.engine.world import World

SECOND = 1_000_000
MANY = 600


@pytest.fixture
def leader(turned: World) -> Scheduler:
    @turned.flow(name="rests", trigger="a/b")
    def rests(ctx: Any) -> None:
        if ctx.event.data["n"] % 2:
            ctx.step.sleep("nap", "1h")
        else:
            ctx.step.wait_for_event("w", event="a/no", timeout="1h")

    row = WorkerRow(turned.runtime.worker, "shop", turned.release(), "host", 1, "prefork", "celery")
    made = Scheduler(turned.runtime, NoBroker(), row)
    made.start()
    made.tick()
    return made


def look(world: World, leader: Scheduler, seconds: int = 1) -> tuple[int, int]:
    """One look of the leader, after so long: how many statements, and how many connections at once."""
    said: list[str] = []
    most = 0

    def hear(sql: str) -> None:
        nonlocal most
        said.append(sql)
        most = max(most, getattr(world.store.engine.pool, "checkedout", lambda: 1)())

    world.clock.turn(seconds * SECOND)
    world.store.observer = hear
    leader.tick()
    world.store.observer = None
    return len(said), most


def test_those_who_sleep_and_wait_cost_no_look_and_wake_in_bounded_pieces(turned: World, leader: Scheduler) -> None:
    # What is done each so many seconds is done in the first look.
    look(turned, leader, 120)
    idle, _ = look(turned, leader)
    for first in range(0, MANY, 300):
        turned.send([Event("a/b", {"n": n}) for n in range(first, first + 300)])
    assert len(turned.runs(status="suspended")) == MANY
    look(turned, leader, 120)
    assert look(turned, leader)[0] <= idle
    turned.broker.waiting.clear()

    said, most = look(turned, leader, 3600)
    woken = len(turned.broker.waiting)
    assert most == 1
    assert 0 < woken <= resume.BATCH * BATCHES_A_TICK
    # A few statements wake a piece, not one each.
    assert said < idle + 200 + woken * 4
    while len(turned.broker.waiting) < MANY:
        look(turned, leader)
    assert len({one.run_id for one in turned.broker.waiting}) == MANY
