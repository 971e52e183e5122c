"""Short sleeps end in the process that began them, without any leader; what is not woken there is left to it."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from celeryflows import Event
from celeryflows.celery_bridge import alarm
from celeryflows.celery_bridge.alarm import Alarm
from celeryflows.engine.resume import wake_due
from celeryflows.errors import StoreUnavailable
from celeryflows.store.branches import Unit
from tests.engine.world import World, store_at
from tests.waiting import eventually


@pytest.fixture
def world(migrated_url: str) -> Iterator[World]:
    """One process whose time is the machine's, and nobody who leads."""
    world = World(store_at(migrated_url))
    world.runtime.alarm = Alarm(world.runtime)

    @world.flow(name="naps", trigger="a/nap")
    def naps(ctx: Any) -> None:
        ctx.step.sleep("nap", ctx.event.data["for"])

    @world.flow(name="branches", trigger="a/branch")
    def branches(ctx: Any) -> None:
        ctx.group.parallel(partial(ctx.step.sleep, "a", "20ms"), partial(ctx.step.sleep, "b", "30ms"))

    @world.flow(name="again", trigger="a/fail", retries=2, backoff=lambda attempt: "20ms")
    def again(ctx: Any) -> None:
        if ctx.attempt < 2:
            raise ValueError

    yield world
    world.runtime.alarm.end()
    world.close()


def is_over(world: World) -> bool:
    world.drain()
    return world.only_run().status == "completed"


@pytest.mark.parametrize("event", [Event("a/nap", {"for": "20ms"}), Event("a/branch"), Event("a/fail")], ids=str)
def test_a_short_sleep_ends_where_it_began(world: World, event: Event) -> None:
    world.send(event)
    eventually(lambda: is_over(world), within=20, every=0.005)


def woken_by(monkeypatch: pytest.MonkeyPatch, wake: Callable[[list[Unit]], list[Unit]]) -> list[Unit]:
    woken: list[Unit] = []

    def keep(runtime: Any, units: list[Unit]) -> list[Unit]:
        woken.extend(units)
        return wake(units)

    monkeypatch.setattr(alarm, "wake_units", keep)
    return woken


def test_a_long_sleep_is_left_to_the_leader(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    woken = woken_by(monkeypatch, lambda units: units)
    world.runtime.alarm.set(("long", ""), 250_000)
    world.runtime.alarm.set(("later", ""), 40_000)
    world.runtime.alarm.set(("soon", ""), 1_000)
    world.runtime.alarm.set(("past", ""), -5)
    eventually(lambda: len(woken) == 3, within=20)
    assert [run for run, _ in woken] == ["past", "soon", "later"]


def test_who_is_not_due_yet_by_the_stores_clock_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = woken_by(monkeypatch, lambda units: units if len(tried) > 2 else [])
    world.runtime.alarm.set(("early", ""), 1)
    world.runtime.alarm.set(("last", ""), 150_000)
    eventually(lambda: ("last", "") in tried, within=20)
    assert tried == [("early", "")] * 3 + [("last", "")]


def test_a_store_that_is_away_ends_no_alarm(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(units: list[Unit]) -> list[Unit]:
        raise StoreUnavailable("away")

    woken = woken_by(monkeypatch, away)
    for run in "ab":
        world.runtime.alarm.set((run, ""), 1)
        eventually(lambda run=run: (run, "") in woken, within=20)  # type: ignore[misc]


def test_a_process_that_ends_leaves_its_sleepers_to_the_leader(world: World) -> None:
    world.send(Event("a/nap", {"for": "100ms"}))
    world.runtime.alarm.end()
    eventually(lambda: wake_due(world.runtime), within=20)
    assert len(world.broker.waiting) == 1
