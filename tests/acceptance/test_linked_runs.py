"""Runs that belong together, on real workers that are killed: invoked runs, signals, lines of runs."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult

from tests.acceptance.crew import Crew
from tests.celery.apps import linked
from tests.kinds import KINDS
from tests.waiting import eventually
from tests.worlds import BRISK, World

SOON = 45.0


@pytest.fixture(scope="module", params=KINDS)
def world(request: pytest.FixtureRequest, make_world: Callable[..., World]) -> World:
    return make_world(request.param, **BRISK)


@pytest.fixture(scope="module")
def crew(world: World) -> Iterator[Crew]:
    """Two workers of the app."""
    with ExitStack() as stack:
        crew = Crew(world, stack, "tests.celery.apps.linked")
        crew.hire_many(2, "-P", "solo")
        yield crew


@pytest.fixture(scope="module")
def app(world: World, crew: Crew) -> Celery:
    return world.app(linked.sheet)


def children(world: World, parent: str) -> list[tuple[Any, ...]]:
    return world.rows("SELECT id, flow, status FROM flows_runs WHERE parent = :id ORDER BY created_at", id=parent)


def test_an_invoked_run_answers_though_the_worker_at_work_on_it_is_killed(
    world: World, crew: Crew, app: Celery
) -> None:
    called = app.tasks["linked.parent"].delay(n=4, gate="open")
    [(child, _, _)] = eventually(lambda: children(world, called.id))
    world.told(f"work {child}")
    crew.kill(crew.at_work_on(f"work {child}"))
    crew.hire("-P", "solo")
    world.open_gate("open")

    assert called.get(timeout=SOON) == [8, "ValueError", "no stock"]
    assert [row[1:] for row in children(world, called.id)] == [
        ("linked.child", "completed"),
        ("linked.broken", "failed"),
    ]


def test_a_signal_from_another_process_wakes_its_run_once(world: World, app: Celery) -> None:
    flows: Any = app.flows  # type: ignore[attr-defined]
    first, second = (app.tasks["linked.approval"].delay(id=n) for n in (1, 2))
    for called in (first, second):
        eventually(lambda run_id=called.id: world.status(run_id) == "suspended", within=SOON)

    assert flows.signal("approval/2", {"by": "Ann"}) == second.id
    assert second.get(timeout=SOON) == {"by": "Ann"}
    assert flows.signal("approval/2") is None
    assert world.status(first.id) == "suspended"


def test_a_line_of_runs_passes_the_bound_of_steps_and_its_first_id_gives_the_value(world: World, app: Celery) -> None:
    called = app.tasks["linked.count"].apply_async(kwargs={"left": 10}, link=app.tasks["linked.note"].s())

    assert called.get(timeout=SOON) == 1_100
    assert app.flows.run(called.id).get(timeout=SOON) == 1_100  # type: ignore[attr-defined]
    world.told("note 1100")
    assert world.counts()["note 1100"] == 1
    assert len(world.rows("SELECT id FROM flows_runs WHERE flow = 'linked.count'")) == 11


def test_revoking_the_first_of_a_line_of_runs_ends_it(world: World, app: Celery) -> None:
    called = app.tasks["linked.endless"].delay()
    world.told("round 2", within=SOON)
    assert AsyncResult(called.id, app=app).state == "SUSPENDED"
    called.revoke()

    with pytest.raises(TaskRevokedError):
        called.get(timeout=SOON)
    assert world.rows("SELECT id FROM flows_runs WHERE flow = 'linked.endless' AND ended_at IS NULL") == []
