"""On MariaDB, through a real worker that is killed: what is sent ends, and nothing that was recorded runs again."""

from collections.abc import Callable
from contextlib import ExitStack

import pytest
from celery import Celery

from celeryflows import Event
from tests.acceptance.crew import Crew
from tests.celery.apps import works
from tests.waiting import eventually
from tests.worlds import BRISK, World

pytestmark = [pytest.mark.mariadb, pytest.mark.always]


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World]) -> World:
    return make_world("mariadb", **BRISK)


@pytest.fixture(scope="module")
def app(world: World) -> Celery:
    return world.app(works.sheet)


def test_an_event_starts_a_run_that_outlives_the_kill_of_its_worker(app: Celery, world: World) -> None:
    with ExitStack() as stack:
        crew = Crew(world, stack, "tests.celery.apps.works")
        first = crew.hire("-c", "2")
        held = app.tasks["works.three"].delay(gate="mariadb")
        app.flows.send(Event("works/asked", {}))
        world.told(f"{held.id} second")
        ((asked,),) = eventually(lambda: world.rows("SELECT id FROM flows_runs WHERE flow = 'works.asked'"))
        world.ends(asked)
        crew.kill(first)
        crew.hire("-c", "2")
        # Claimed anew by another worker, it goes on behind what was recorded.
        world.told(f"{held.id} second", times=2)
        world.open_gate("mariadb")
        world.ends(held.id)
        naps = app.tasks["works.naps"].delay(nap="1s")
        world.ends(naps.id)
    assert world.counts()[f"{held.id} first"] == 1
    assert world.counts()[f"{held.id} third"] == 1
    assert world.counts()[f"{asked} only"] == 1
    assert [step.state for step in app.flows.run(held.id).steps] == ["done"] * 3
