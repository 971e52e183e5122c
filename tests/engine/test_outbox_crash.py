"""Promises of the outbox when its sender dies: before the commit nothing is left, after it every run starts, once."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from celeryflows.clock import SystemClock, TurnedClock
from celeryflows.durations import to_datetime
from celeryflows.scheduler.sweeper import route_left
from tests.engine.orders import Order, callers_engine, declare_ship, outputs, recovered
from tests.engine.world import Process, World, store_at, us
from tests.waiting import eventually

SENDER = Path(__file__).with_name("outbox_sender.py")
ROOT = SENDER.parents[2]


def kill_a_sender(world: World, how: str, when: str) -> None:
    """Run a sender in a process of its own until it is dead."""
    url = world.store.url.render_as_string(hide_password=False)
    done = subprocess.run(
        [sys.executable, str(SENDER), url, how, when],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def orders(world: World) -> list[int]:
    engine = callers_engine(world.store.url)
    with Session(engine) as session:
        found = list(session.scalars(select(Order.id)))
    engine.dispose()
    return found


@pytest.mark.parametrize("how", ["session", "connection"])
def test_a_sender_killed_before_its_commit_leaves_nothing(shared: World, how: str) -> None:
    declare_ship(shared)

    kill_a_sender(shared, how, "before")

    eventually(lambda: recovered(shared) == 0)
    assert (orders(shared), shared.events(), shared.runs()) == ([], [], [])


@pytest.mark.parametrize("how", ["session", "connection"])
def test_a_sender_killed_right_after_its_commit_loses_nothing(shared: World, how: str) -> None:
    declare_ship(shared)

    kill_a_sender(shared, how, "after")
    assert (orders(shared), len(shared.events()), shared.runs()) == ([1], 1, [])

    eventually(lambda: route_left(shared.runtime), within=5)
    assert recovered(shared) == 0
    assert outputs(shared) == [1]


def test_two_leaders_that_find_the_same_event_route_it_once(shared: World) -> None:
    declare_ship(shared)
    kill_a_sender(shared, "connection", "after")
    with shared.store.connection() as connection:
        left = connection.events.unrouted(0)
    assert len(left) == 1

    eventually(lambda: route_left(shared.runtime), within=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("celeryflows.store.events.Events.unrouted", lambda self, age: left)
        assert route_left(shared.runtime) == 1

    assert outputs(shared) == [1]


@pytest.fixture
def world_on_postgres(migrated_postgres: str) -> Iterator[World]:
    world = World(store_at(migrated_postgres))
    declare_ship(world)
    yield world
    world.close()


@pytest.mark.parametrize("wrong", ["1h", "-1h"])
def test_a_senders_wrong_clock_does_not_hold_its_events_back(world_on_postgres: World, wrong: str) -> None:
    world = world_on_postgres
    now = SystemClock().now()
    clock = TurnedClock(now + us("1h") if wrong == "1h" else now - us("1h"))
    sender = Process(world.store, clock, world.broker, "web")
    engine = callers_engine(world.store.url)

    with engine.begin() as connection:
        sender.flows.send("order/paid", {"n": 1}, ts=to_datetime(now), transaction=connection)
    sender.close()
    engine.dispose()

    eventually(lambda: route_left(world.runtime), within=2)
    assert outputs(world) == [1]
