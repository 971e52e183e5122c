"""Promises of a cron that is edited, moved or removed: the change counts at once, and a deploy fires nothing twice."""

from collections.abc import Callable
from typing import Any

import pytest

from celeryflows import OnCron
from celeryflows.durations import from_datetime
from tests.engine.timetable import at, local
from tests.engine.world import NEW_YEAR, Process, World, us

Deploy = Callable[..., Process]


@pytest.fixture
def fired() -> list[int]:
    """The moments of all runs, whichever release ran them."""
    return []


@pytest.fixture
def deploy(world: World, fired: list[int]) -> Deploy:
    """Stop the worker that runs and start one whose flow has these triggers (none: the flow is gone)."""
    running: list[Process] = []

    def start(*triggers: Any, name: str = "report", **options: Any) -> Process:
        for old in running:
            old.stop_worker()
        worker = world.process()
        if triggers:
            worker.flow(name=name, trigger=list(triggers), **options)(
                lambda ctx: fired.append(from_datetime(ctx.event.ts))
            )
        else:
            worker.flow(name="something else")(lambda ctx: None)
        assert worker.start_worker() is True
        running[:] = [worker]
        return worker

    return start


def test_an_edited_line_counts_at_once(deploy: Deploy, fired: list[int]) -> None:
    deploy(OnCron("0 9 * * *")).turn_to(at("2024-01-01T08:59"))

    deploy(OnCron("30 9 * * *")).turn_to(at("2024-01-02T00:00"))

    assert local(fired) == ["01 09:30"]


def test_an_edited_zone_counts_at_once(deploy: Deploy, fired: list[int]) -> None:
    deploy(OnCron("0 9 * * *", tz="Europe/Paris")).turn_to(at("2024-01-01T07:59"))

    deploy(OnCron("0 9 * * *", tz="America/New_York")).turn_to(at("2024-01-02T00:00"))

    assert local(fired) == ["01 14:00"]


def test_a_removed_cron_fires_no_more(deploy: Deploy, fired: list[int], world: World) -> None:
    deploy(OnCron("0 * * * *")).turn_to(at("2024-01-01T02:30"))

    deploy().turn_to(at("2024-01-01T12:00"))

    assert local(fired) == ["01 01:00", "01 02:00"]
    assert len(world.runs()) == 2


def test_a_cron_that_is_replaced_by_an_event_fires_no_more(deploy: Deploy, fired: list[int]) -> None:
    deploy(OnCron("0 * * * *")).turn_to(at("2024-01-01T01:30"))

    worker = deploy("a/b")
    worker.turn_to(at("2024-01-01T05:00"))
    worker.send("a/b")

    assert local(fired) == ["01 01:00", "01 05:00"]


def test_a_removed_cron_that_was_due_does_not_fire_late(deploy: Deploy, fired: list[int], world: World) -> None:
    deploy(OnCron("0 9 * * *"))
    world.clock.set(at("2024-01-01T09:00"))

    deploy().run_due()

    assert fired == []


def test_a_cron_that_comes_back_starts_anew_without_what_it_missed(deploy: Deploy, fired: list[int]) -> None:
    deploy(OnCron("0 * * * *", missed="all")).turn_to(at("2024-01-01T01:30"))
    deploy().turn_to(at("2024-01-01T05:30"))

    deploy(OnCron("0 * * * *", missed="all")).turn_to(at("2024-01-01T06:30"))

    assert local(fired) == ["01 01:00", "01 06:00"]


def test_a_deploy_that_changes_something_else_keeps_what_is_due(deploy: Deploy, fired: list[int], world: World) -> None:
    deploy(OnCron("0 9 * * *"), version="1")
    world.clock.set(at("2024-01-01T09:00"))

    deploy(OnCron("0 9 * * *"), version="2").run_due()

    assert local(fired) == ["01 09:00"]
    assert world.only_run().runtime is world.runtime
    with world.store.connection() as connection:
        assert connection.execute("SELECT version FROM flows_runs") == [("2",)]


def test_a_trigger_that_moves_to_another_place_in_the_list_fires_once(deploy: Deploy, fired: list[int]) -> None:
    deploy(OnCron("0 9 * * *")).turn_to(at("2024-01-01T08:00"))

    deploy("a/b", OnCron("0 9 * * *")).turn_to(at("2024-01-01T10:00"))
    deploy(OnCron("0 9 * * *"), "a/b").turn_to(at("2024-01-02T10:00"))

    assert local(fired) == ["01 09:00", "02 09:00"]


def test_the_same_release_that_starts_again_fires_nothing_twice(deploy: Deploy, fired: list[int]) -> None:
    for _ in range(5):
        deploy(OnCron("0 9 * * *")).turn_to(at("2024-01-01T09:00"))

    assert local(fired) == ["01 09:00"]


def test_an_edit_takes_jitter_too(deploy: Deploy, fired: list[int], world: World) -> None:
    deploy(OnCron("0 9 * * *", jitter="30m")).turn_to(at("2024-01-01T08:00"))

    deploy(OnCron("0 9 * * *")).turn_to(at("2024-01-01T09:00"))

    assert local(fired) == ["01 09:00"]
    assert world.only_run().status == "completed"


def test_an_old_worker_that_restarts_does_not_bring_its_line_back(
    deploy: Deploy, fired: list[int], world: World
) -> None:
    newest = deploy(OnCron("30 9 * * *"))
    old = world.process()
    old.flow(name="report", trigger=OnCron("0 9 * * *"))(lambda ctx: None)
    old.start_worker()
    old.stop_worker()
    third = world.process()
    third.flow(name="report", trigger=OnCron("30 9 * * *"))(lambda ctx: None)
    third.start_worker()

    with world.store.connection() as connection:
        (row,) = connection.crons.all()
    assert '"cron": "30 9 * * *"' in row.definition
    newest.turn_to(NEW_YEAR + us("1 day"))
    assert local(fired) == ["01 09:30"]


def test_a_sender_that_declares_an_unknown_cron_flow_makes_it_fire(world: World, fired: list[int]) -> None:
    service = world.process("web")
    service.flow(name="report", trigger=OnCron("0 9 * * *"))(lambda ctx: fired.append(from_datetime(ctx.event.ts)))
    service.send("a/b")

    service.turn_to(at("2024-01-01T10:00"))

    assert local(fired) == ["01 09:00"]
