"""Existing tasks as steps, on real workers of two apps: the flows', and another team's without our extension."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery

from tests.celery.apps import remote
from tests.waiting import eventually
from tests.workers import Worker
from tests.worlds import BRISK, World

SOON = 30.0


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World]) -> World:
    return make_world("sqlite", **BRISK)


@pytest.fixture(scope="module")
def ours(world: World) -> Iterator[Worker]:
    with world.worker("tests.celery.apps.remote", "-c", "3", "-Q", "celery,side") as worker:
        yield worker


@pytest.fixture(scope="module")
def depot(world: World) -> Iterator[Worker]:
    with world.worker("tests.celery.apps.depot", "-c", "1", "-Q", "depot", "-n", "depot@%h") as worker:
        yield worker


@pytest.fixture(scope="module")
def app(world: World, ours: Worker, depot: Worker) -> Celery:
    return world.app(remote.sheet)


def value_of(app: Celery, task: str, *args: Any, **more: Any) -> Any:
    return app.tasks["remote.sends"].delay(task=task, args=list(args), **more).get(timeout=SOON)


def heard_a_revoke(depot: Worker, before: int) -> None:
    """Wait until the depot's worker has heard of one more: a revoke is no message that anybody waits for."""
    eventually(lambda: depot.log.count("flagged as revoked") > before, within=SOON)


def test_a_task_of_another_app_gives_its_value_once(app: Celery, world: World) -> None:
    assert value_of(app, "pack", "o1") == {"order": "o1", "weight": 1, "sizes": [1, 2]}
    assert world.counts()["pack o1"] == 1


def test_a_task_of_this_app_answers_without_a_message(app: Celery, world: World, ours: Worker) -> None:
    before = ours.log.count("celeryflows.answer")
    assert value_of(app, "count", "abc") == 3
    assert value_of(app, "lose", "abc") == ["KeyError", "'abc'"]
    assert ours.log.count("celeryflows.answer") == before
    assert (world.counts()["count abc"], world.counts()["lose abc"]) == (1, 1)


def test_a_failed_task_of_another_app_gives_its_error(app: Celery, world: World) -> None:
    assert value_of(app, "refuse", "o2") == ["ValueError", "no stock for o2"]
    assert world.counts()["refuse o2"] == 1


def test_a_tasks_own_retries_are_its_own(app: Celery, world: World) -> None:
    assert value_of(app, "flaky", "o3") == "o3 at last"
    assert world.counts()["flaky o3"] == 3


def test_a_tasks_own_time_limit_is_its_error(app: Celery, world: World, ours: Worker) -> None:
    before = ours.log.count("celeryflows.answer")
    assert value_of(app, "stay", "o9") == ["TimeLimitExceeded", "TimeLimitExceeded(1,)"]
    assert ours.log.count("celeryflows.answer") == before
    assert world.counts()["stay o9"] == 1


def test_a_task_that_is_replaced_answers_by_its_replacement(app: Celery, world: World) -> None:
    assert value_of(app, "replaced", "o4") == {"order": "o4", "weight": 7, "sizes": [1, 2]}


def test_tasks_of_an_async_flow_are_out_at_once(app: Celery) -> None:
    assert app.tasks["remote.at_once"].delay(order="o5").get(timeout=SOON) == ["o5", 2]


def test_branches_send_tasks_and_the_loser_of_a_race_is_revoked(app: Celery, world: World, depot: Worker) -> None:
    held = app.tasks["remote.sends"].delay(task="hold", args=["o6", "open"])
    world.told("hold o6")
    before = depot.log.count("flagged as revoked")
    assert app.tasks["remote.branches"].delay(order="o6").get(timeout=SOON) == [[3, 3, 3], [1, 2]]
    heard_a_revoke(depot, before)
    world.open_gate("open")

    assert held.get(timeout=SOON) == "o6 held"
    assert value_of(app, "pack", "behind it") is not None
    assert world.counts()["hold o6 loses"] == 0
    assert "Discarding revoked task: depot.hold" in depot.log


def test_the_task_of_a_cancelled_run_is_revoked(app: Celery, world: World, depot: Worker) -> None:
    held = app.tasks["remote.sends"].delay(task="hold", args=["o7", "open too"])
    world.told("hold o7")
    waiting = app.tasks["remote.sends"].delay(task="pack", args=["never packed"])
    eventually(lambda: world.status(waiting.id) == "suspended", within=SOON)
    before = depot.log.count("flagged as revoked")
    assert app.flows.run(waiting.id).cancel()  # type: ignore[attr-defined]
    heard_a_revoke(depot, before)
    world.open_gate("open too")

    assert held.get(timeout=SOON) == "o7 held"
    assert value_of(app, "pack", "behind that") is not None
    assert world.counts()["pack never packed"] == 0


def test_a_run_that_is_terminated_has_its_task_ended_too(app: Celery, world: World, depot: Worker) -> None:
    held = app.tasks["remote.sends"].delay(task="hold", args=["ended", "never"])
    world.told("hold ended")
    assert app.flows.run(held.id).cancel(terminate=True)  # type: ignore[attr-defined]
    # Its only process is free again.
    assert value_of(app, "pack", "behind the ended") is not None


def test_a_task_that_does_not_answer_in_time_is_revoked(app: Celery, world: World, depot: Worker) -> None:
    held = app.tasks["remote.sends"].delay(task="hold", args=["o8", "open three"])
    world.told("hold o8")
    before = depot.log.count("flagged as revoked")
    assert value_of(app, "pack", "too late", timeout="1s")[0] == "timeout"
    heard_a_revoke(depot, before)
    world.open_gate("open three")

    assert held.get(timeout=SOON) == "o8 held"
    assert value_of(app, "pack", "behind all") is not None
    assert world.counts()["pack too late"] == 0
