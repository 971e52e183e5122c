"""Workers that cannot speak or have lost their head: an interpreter that is held, a main process killed alone."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.crew import Crew
from tests.celery.apps import holding, works
from tests.waiting import eventually
from tests.worlds import BRISK, World

# Silence makes a worker dead after four seconds here.
SECONDS = 9.0


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world("postgres", worker_disable_prefetch=True, **BRISK)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def held(world: World, stack: ExitStack, *pool: str) -> tuple[int, int]:
    """A step holds the interpreter of its process while another worker looks on: how often it ran and was recorded."""
    crew = Crew(world, stack, "tests.celery.apps.holding")
    crew.hire_many(2, *pool)
    run = world.app(holding.sheet).tasks["holding.holds"].delay(seconds=SECONDS)
    world.ends(run.id, within=90)
    recorded = world.rows("SELECT count(*) FROM flows_steps WHERE state = 'done'")[0][0]
    return world.counts()[f"{run.id} hold"], recorded


def test_a_pools_process_that_holds_its_interpreter_is_not_taken_for_dead(world: World, stack: ExitStack) -> None:
    # The heartbeat is the main process's.
    assert held(world, stack, "-c", "1") == (1, 1)


@pytest.mark.slow
def test_a_thread_that_holds_the_workers_own_is_taken_for_dead_and_its_step_is_recorded_once(
    world: World, stack: ExitStack
) -> None:
    assert held(world, stack, "-P", "threads", "-c", "1") == (2, 1)


def test_the_children_of_a_main_process_that_is_killed_record_nothing_more_and_end(
    world: World, stack: ExitStack
) -> None:
    crew = Crew(world, stack, "tests.celery.apps.works")
    app = world.app(works.sheet)
    headless = crew.hire("-c", "2")
    run = app.tasks["works.three"].delay(gate="headless")
    world.told(f"{run.id} second")
    children = headless.children
    crew.hire("-c", "2")
    os.kill(headless.pid, signal.SIGKILL)
    world.told(f"{run.id} second", times=2)
    orphan, heir = world.pids(f"{run.id} second")
    assert orphan in children
    world.open_gate("headless")
    world.ends(run.id)
    assert app.flows.run(run.id).output[1].split()[2] == str(heir)
    eventually(lambda: not any(is_alive(child) for child in children), within=20)
    counts = world.counts()
    assert [counts[f"{run.id} {step}"] for step in ("first", "third")] == [1, 1]


def is_alive(pid: int) -> bool:
    """Nobody may be there to bury it."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
