"""What is due at a time is done at that time, not at the leader's next look; what is not due costs one look."""

from functools import partial
from typing import Any

import pytest

from celeryflows import Batch, Debounce, Event, OnCron, Throttle
from celeryflows.scheduler.sweeper import NoBroker
from celeryflows.scheduler.tick import Scheduler
from celeryflows.scheduler.timers import APART
from celeryflows.store.connection import TransientError
from celeryflows.store.workers import WorkerRow
from tests.engine.world import World

SECOND, MS = 1_000_000, 1_000
LOOK = "FROM flows_meters WHERE next_at IS NOT NULL ORDER BY next_at"


def quiet(ctx: Any) -> None:
    """Only its start counts."""


def declare(world: World) -> None:
    @world.flow(name="naps", trigger="a/nap")
    def naps(ctx: Any) -> None:
        ctx.step.sleep("nap", ctx.event.data["for"])

    @world.flow(name="branches", trigger="a/branch")
    def branches(ctx: Any) -> None:
        ctx.group.parallel(partial(ctx.step.sleep, "nap", "400ms"))

    @world.flow(name="waits", trigger="a/wait")
    def waits(ctx: Any) -> None:
        ctx.step.wait_for_event("w", event="a/no", timeout="400ms")

    @world.flow(name="again", trigger="a/fail", retries=1, backoff=lambda attempt: "400ms")
    def again(ctx: Any) -> None:
        raise ValueError

    world.flow(name="debounced", trigger="a/debounce", debounce=Debounce("1400ms"))(quiet)
    world.flow(name="batched", trigger="a/batch", batch=Batch(9, "1400ms"))(quiet)
    world.flow(name="throttled", trigger="a/throttle", throttle=Throttle(5, "7s"))(quiet)
    world.flow(name="ticks", trigger=OnCron("* * * * *"))(quiet)


@pytest.fixture
def leader(turned: World) -> Scheduler:
    declare(turned)
    made = Scheduler(
        turned.runtime,
        NoBroker(),
        WorkerRow(turned.runtime.worker, "shop", turned.release(), "host", 1, "prefork", "celery"),
    )
    made.start()
    made.tick()
    assert made.leads
    return made


def go_on(world: World, leader: Scheduler, seconds: float) -> list[int]:
    """As the worker's thread does; in which milliseconds from now on messages were sent."""
    began, sent = world.clock.now(), []
    while world.clock.now() - began < seconds * SECOND:
        world.clock.turn(round(leader.pause() * SECOND))
        leader.tick()
        sent += [(world.clock.now() - began) // MS] * (len(world.broker.waiting) - len(sent))
    return sent


@pytest.mark.parametrize(
    ("event", "ms"),
    [
        (Event("a/nap", {"for": "400ms"}), 400),
        (Event("a/branch"), 400),
        (Event("a/wait"), 400),
        (Event("a/fail"), 400),
        (Event("a/debounce"), 1400),
        (Event("a/batch"), 1400),
    ],
    ids=lambda one: getattr(one, "name", None),
)
def test_what_is_due_between_two_looks_is_done_at_its_time(
    turned: World, leader: Scheduler, event: Event, ms: int
) -> None:
    turned.send(event)
    sent = go_on(turned, leader, ms / 1000 + 0.2)
    assert len(sent) == 1
    assert ms <= sent[0] <= ms + 5


def test_a_throttle_lets_in_at_even_gaps(turned: World, leader: Scheduler) -> None:
    for _ in range(3):
        turned.send(Event("a/throttle"))
    first, second = go_on(turned, leader, 3)
    assert (first // 10, second // 10) == (140, 280)


def test_a_cron_fires_at_its_minute(turned: World, leader: Scheduler) -> None:
    turned.clock.turn(60 * SECOND - turned.clock.now() % (60 * SECOND) - 400 * MS)
    leader.tick()
    (fired,) = go_on(turned, leader, 0.6)
    assert 400 <= fired <= 405


def test_those_who_are_due_one_after_the_other_share_looks(turned: World, leader: Scheduler) -> None:
    turned.send([Event("a/nap", {"for": f"{n}ms"}) for n in range(400, 600)])
    looks: list[str] = []
    turned.store.observer = lambda sql: looks.append(sql) if LOOK in sql else None
    sent = go_on(turned, leader, 0.8)
    turned.store.observer = None
    assert len(sent) == 200
    assert all(at - due <= APART * 1000 + 5 for due, at in enumerate(sent, 400))
    # Two for each piece, and a few while nothing was due.
    assert len(looks) <= 2 * 200 / (APART * 1000) + 10


def test_who_sleeps_for_long_costs_one_look_each_quarter_of_a_second(turned: World, leader: Scheduler) -> None:
    turned.send([Event("a/nap", {"for": f"{n}h"}) for n in range(1, 50)])
    looks: list[str] = []
    turned.store.observer = lambda sql: looks.append(sql) if LOOK in sql else None
    assert go_on(turned, leader, 5) == []
    turned.store.observer = None
    assert len(looks) <= 5 * 4 + 1


def test_what_nobody_can_do_is_looked_at_no_more_often(turned: World, leader: Scheduler) -> None:
    turned.store_rows("UPDATE flows_crons SET definition = :bad, next_at = 1", bad='{"event":"a/b"}')
    looks: list[str] = []
    turned.store.observer = lambda sql: looks.append(sql) if LOOK in sql else None
    go_on(turned, leader, 2)
    turned.store.observer = None
    assert len(looks) <= 2 * (2 * 4 + 1)


def test_a_store_that_is_busy_is_asked_no_more_often(
    turned: World, leader: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    turned.send(Event("a/nap", {"for": "400ms"}))
    tries: list[str] = []

    def busy(*_: object) -> None:
        tries.append("due")
        raise TransientError("the store is busy")

    monkeypatch.setattr("celeryflows.engine.resume.wake", busy)
    go_on(turned, leader, 2)
    assert 4 <= len(tries) <= 2 * 4 + 1
