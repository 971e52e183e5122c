"""Whom a leader declares dead: who is silent while it sees, and nobody who was held up together with it."""

import contextlib
from collections.abc import Iterator

import pytest

from celeryflows.scheduler.sweeper import NoBroker
from celeryflows.scheduler.tick import Scheduler
from celeryflows.store.connection import TransientError
from celeryflows.store.workers import WorkerRow
from tests.engine.world import World

SECOND = 1_000_000


@pytest.fixture
def other(turned: World) -> str:
    """A run that another worker is at, which has beaten just now."""
    turned.flow(name="shop.order", trigger="shop/ordered")(lambda ctx: None)
    turned.flows.send("shop/ordered")
    turned.broker.waiting.clear()
    with turned.store.connection() as connection:
        connection.workers.start(WorkerRow("other", "shop", turned.release(), "host", 2, "prefork", "celery"))
        [(run_id,)] = connection.execute("SELECT id FROM flows_runs")
        assert connection.runs.claim(run_id, "other", 1) is not None
    return str(run_id)


@pytest.fixture
def leader(turned: World) -> Scheduler:
    made = Scheduler(turned.runtime, NoBroker(), WorkerRow("me", "shop", turned.release(), "host", 1, "solo", "celery"))
    turned.runtime.worker = "me"
    made.start()
    made.tick()
    assert made.leads
    return made


def look_for(world: World, leader: Scheduler, seconds: int) -> None:
    for _ in range(seconds):
        world.clock.turn(SECOND)
        leader.tick()


def beat(world: World) -> None:
    with world.store.connection() as connection:
        connection.workers.beat("other")


def status(world: World) -> str:
    return str(world.store_rows("SELECT status FROM flows_runs")[0][0])


def test_who_is_silent_for_twenty_seconds_before_its_eyes_is_dead(turned: World, other: str, leader: Scheduler) -> None:
    look_for(turned, leader, 18)
    assert status(turned) == "running"
    look_for(turned, leader, 4)
    assert status(turned) == "queued"


def test_who_was_frozen_together_with_the_leader_is_not_dead(turned: World, other: str, leader: Scheduler) -> None:
    look_for(turned, leader, 10)
    beat(turned)
    look_for(turned, leader, 12)
    # The whole host stands still for an hour, then goes on; the leader happens to be the first.
    turned.clock.turn(3600 * SECOND)
    leader.tick()
    leader.tick()
    assert status(turned) == "running"
    beat(turned)
    look_for(turned, leader, 19)
    beat(turned)
    look_for(turned, leader, 5)
    assert status(turned) == "running"
    look_for(turned, leader, 20)
    assert status(turned) == "queued"


def test_who_was_held_up_by_what_held_up_the_leader_in_its_look_is_not_dead(
    turned: World, other: str, leader: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_for(turned, leader, 10)
    beat(turned)
    look_for(turned, leader, 12)

    @contextlib.contextmanager
    def slow() -> Iterator[None]:
        # A writer that does not let go of the file.
        turned.clock.turn(30 * SECOND)
        leader.gate = contextlib.nullcontext()
        yield

    leader.gate = slow()
    turned.clock.turn(SECOND)
    leader.tick()
    leader.tick()
    assert status(turned) == "running"


def test_a_conflict_costs_neither_the_lead_nor_the_sight(
    turned: World, other: str, leader: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_for(turned, leader, 18)

    def busy(*_: object) -> None:
        raise TransientError("the store is busy")

    with monkeypatch.context() as patch:
        patch.setattr("celeryflows.scheduler.timers.Timers.look", busy)
        look_for(turned, leader, 1)
        assert leader.leads
    look_for(turned, leader, 3)
    assert status(turned) == "queued"
