"""Promises of cron across processes: a hundred occurrences each fire once, however many try at the same instant."""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from celeryflows import OnCron
from celeryflows.clock import TurnedClock
from celeryflows.scheduler import crons
from celeryflows.scheduler.crons import fire_due
from celeryflows.store.crons import Crons
from tests.engine.world import NEW_YEAR, Process, World, store_at, us

HOUR = us("1h")
OCCURRENCES = 100


@pytest.fixture
def turned(store_url: str) -> Iterator[World]:
    world = World(store_at(store_url, TurnedClock(NEW_YEAR)))
    yield world
    world.close()


def leaders(world: World, count: int, **options: Any) -> list[Process]:
    """Workers that each believe to lead."""
    found = []
    for _ in range(count):
        worker = world.process()
        worker.flow(name="report", trigger=OnCron("0 * * * *", **options))(lambda ctx: None)
        worker.start_worker()
        found.append(worker)
    return found


def moments(world: World) -> list[int]:
    """The scheduled moments of all runs, sorted."""
    with world.store.connection() as connection:
        rows = connection.execute(
            "SELECT e.ts FROM flows_runs r JOIN flows_events e ON e.id = r.event_id ORDER BY e.ts"
        )
    return [row[0] for row in rows]


def expected(count: int) -> list[int]:
    return [NEW_YEAR + HOUR * n for n in range(1, count + 1)]


def test_four_leaders_at_the_same_instant_fire_each_occurrence_once(turned: World) -> None:
    workers = leaders(turned, 4)
    together = threading.Barrier(4)

    def lead(worker: Process) -> None:
        for n in range(1, OCCURRENCES + 1):
            if together.wait(30) == 0:
                turned.clock.set(NEW_YEAR + HOUR * n)
            together.wait(30)
            fire_due(worker.runtime)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lead, workers))

    assert moments(turned) == expected(OCCURRENCES)
    assert Counter(Counter(message.run_id for message in turned.broker.waiting).values()) == {1: OCCURRENCES}


def test_four_leaders_that_follow_an_outage_fire_all_of_it_once(turned: World) -> None:
    workers = leaders(turned, 4, missed="all")
    turned.clock.set(NEW_YEAR + HOUR * OCCURRENCES)

    def lead(worker: Process) -> None:
        while fire_due(worker.runtime):
            pass

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lead, workers))

    assert moments(turned) == expected(OCCURRENCES)


class Killed(BaseException):
    """Stands for kill -9."""


@pytest.mark.parametrize("moment", ["before its transaction", "inside it", "after its commit"])
def test_a_leader_that_is_killed_while_it_fires_neither_loses_nor_doubles_one(
    world: World, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    first, second = leaders(world, 2)
    killed: list[int] = []

    def die(*args: Any) -> Any:
        killed.append(world.clock.now())
        raise Killed

    for n in range(1, 21):
        world.clock.set(NEW_YEAR + HOUR * n)
        if n % 2:
            with monkeypatch.context() as patch:
                if moment == "before its transaction":
                    patch.setattr(crons, "occurrences_to_fire", die)
                elif moment == "inside it":
                    patch.setattr(first.runtime.store, "observer", lambda sql: die() if "flows_runs" in sql else None)
                else:
                    patch.setattr(world.broker, "send_runs", die)
                with pytest.raises(Killed):
                    fire_due(first.runtime)
        fire_due(second.runtime)

    assert len(killed) == 10
    assert moments(world) == expected(20)


def test_one_who_read_the_due_time_long_ago_fires_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    slow, quick = leaders(world, 2)
    world.clock.set(NEW_YEAR + HOUR)
    with world.store.connection() as connection:
        stale = connection.crons.due()

    fire_due(quick.runtime)
    world.clock.set(NEW_YEAR + 2 * HOUR)
    monkeypatch.setattr(Crons, "due", lambda self, limit=200: stale)
    fire_due(slow.runtime)

    assert moments(world) == expected(1)


def test_a_due_time_of_a_definition_that_was_edited_meanwhile_does_not_fire(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (old,) = leaders(world, 1)
    world.clock.set(NEW_YEAR + HOUR)
    with world.store.connection() as connection:
        stale = connection.crons.due()
    new = world.process()
    new.flow(name="report", trigger=OnCron("30 * * * *"))(lambda ctx: None)
    new.start_worker()

    monkeypatch.setattr(Crons, "due", lambda self, limit=200: stale)
    fire_due(old.runtime)

    assert moments(world) == []
