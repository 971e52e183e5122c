"""Whole workers die or freeze: another takes over their runs, the lead and the timers. Two real workers at a time."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from celery import Celery

from tests.acceptance.crew import Crew
from tests.celery.apps import works
from tests.kinds import KINDS
from tests.waiting import eventually
from tests.worlds import BRISK, World

SOON = 30.0


@pytest.fixture(scope="module", params=KINDS)
def world(request: pytest.FixtureRequest, make_world: Callable[..., World]) -> World:
    # A busy worker takes no message that the other one could work on.
    return make_world(request.param, worker_disable_prefetch=True, **BRISK)


@pytest.fixture(scope="module")
def crew(world: World) -> Iterator[Crew]:
    with ExitStack() as stack:
        yield Crew(world, stack, "tests.celery.apps.works")


@pytest.fixture(scope="module")
def app(world: World) -> Celery:
    return world.app(works.sheet)


def test_a_frozen_leader_is_replaced_and_records_nothing_when_it_comes_back(
    app: Celery, world: World, crew: Crew
) -> None:
    frozen = crew.hire("-c", "2")
    eventually(lambda: crew.leader() == frozen.pid)
    held = app.tasks["works.three"].delay(gate="frozen")
    asleep = app.tasks["works.naps"].delay(nap="3s")
    world.told(f"{held.id} second")
    eventually(lambda: world.status(asleep.id) == "suspended")
    other = crew.hire("-c", "2")
    frozen.freeze()
    try:
        # The lease runs out, then the heartbeat of what it was running.
        eventually(lambda: crew.leader() == other.pid, within=15)
        world.ends(asleep.id)
        world.told(f"{held.id} second", times=2)
        world.open_gate("frozen")
        world.ends(held.id)
        value = app.flows.run(held.id).output
        steps = app.flows.run(held.id).steps
    finally:
        frozen.thaw()
    # The zombie's step ends now: the message of a later run shows that it is past it.
    eventually(lambda: f"Task works.three[{held.id}] ignored" in frozen.log, within=20)
    assert app.flows.run(held.id).output == value
    assert app.flows.run(held.id).steps == steps
    assert value[1].split()[2] != str(world.pids(f"{held.id} second")[0])
    assert world.counts()[f"{held.id} third"] == 1
    assert world.counts()[f"{held.id} first"] == 1
    assert held.get(timeout=SOON) == value


def test_the_zombie_is_a_worker_like_any_other_afterwards(app: Celery, world: World, crew: Crew) -> None:
    eventually(lambda: {worker.pid for worker in crew.living} <= set(crew.entered()))
    many = [app.tasks["works.slow"].delay(seconds=0.3) for _ in range(8)]
    assert [one.get(timeout=SOON) for one in many] == [None] * 8
    assert all("succeeded in" in worker.log for worker in crew.living)


def test_kill_9_of_the_leader_hands_its_runs_and_timers_to_another(app: Celery, world: World, crew: Crew) -> None:
    asleep = app.tasks["works.naps"].delay(nap="2s")
    eventually(lambda: world.status(asleep.id) == "suspended")
    # As many as both workers have processes: half of them are the leader's.
    runs = [app.tasks["works.three"].delay(gate="killed").id for _ in range(4)]
    for run in runs:
        world.told(f"{run} second")
    leader = next(worker for worker in crew.living if worker.pid == crew.leader())
    lost = [run for run in runs if crew.at_work_on(f"{run} second") is leader]
    assert len(lost) == 2
    before = {run: app.flows.run(run).steps[0].value for run in runs}
    crew.kill(leader)
    killed = time.monotonic()
    world.open_gate("killed")
    for run in (*runs, asleep.id):
        world.ends(run)
    # A lease of four seconds, four of silence, and the way through the queue.
    assert time.monotonic() - killed < 14
    for run in runs:
        assert json.loads(before[run]) == app.flows.run(run).output[0]
        counts = [world.counts()[f"{run} {step}"] for step in ("first", "second", "third")]
        assert counts == [1, 2 if run in lost else 1, 1]


def test_a_caller_that_waited_all_the_time_gets_the_value(app: Celery, world: World) -> None:
    for run in app.flows.runs(flow="works.three"):
        assert app.AsyncResult(run.id).get(timeout=SOON)[2].startswith("third by")
