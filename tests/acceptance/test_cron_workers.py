"""Cron by real workers: each occurrence once, whoever leads. Due times are moved back instead of waiting for them."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from tests.acceptance.crew import Crew
from tests.kinds import KINDS
from tests.waiting import eventually
from tests.worlds import BRISK, World

MINUTE = 60_000_000
OCCURRENCES = 100


@pytest.fixture(scope="module", params=KINDS)
def world(request: pytest.FixtureRequest, make_world: Callable[..., World]) -> World:
    return make_world(request.param, **BRISK)


@pytest.fixture(scope="module")
def crew(world: World) -> Iterator[Crew]:
    with ExitStack() as stack:
        yield Crew(world, stack, "tests.celery.apps.crons")


def fired(world: World) -> list[datetime]:
    """The moments of all occurrences that started a run, one entry for each run."""
    rows = world.rows("SELECT e.data FROM flows_runs r JOIN flows_events e ON e.id = r.event_id")
    return sorted(datetime.fromisoformat(json.loads(row[0])["scheduled_at"]) for row in rows)


def test_a_hundred_missed_minutes_fire_once_each_though_the_leader_dies(world: World, crew: Crew) -> None:
    workers = crew.hire_many(2, "-c", "1")
    leader = next(worker for worker in workers if worker.pid == eventually(crew.leader))
    due = world.rows("SELECT next_at FROM flows_crons")[0][0]
    world.rows("UPDATE flows_crons SET next_at = next_at - :back", back=OCCURRENCES * MINUTE)
    eventually(lambda: fired(world), every=0.005)
    crew.kill(leader)
    eventually(lambda: world.rows("SELECT min(next_at) FROM flows_crons")[0][0] >= due, within=20)
    eventually(lambda: all(status == "completed" for (status,) in world.rows("SELECT status FROM flows_runs")), 30)
    moments = fired(world)
    assert len(moments) >= OCCURRENCES
    assert all(later - earlier == timedelta(minutes=1) for earlier, later in pairwise(moments))
    told = {line.removeprefix("minute ") for line in world.lines()}
    assert told == {moment.isoformat() for moment in moments}


def test_many_workers_that_all_look_fire_it_once(world: World, crew: Crew) -> None:
    before = fired(world)
    crew.hire("-c", "1")
    # The one that leads, and one that takes the lead in the middle of it, look at the same due times.
    world.rows("UPDATE flows_crons SET next_at = next_at - :back", back=OCCURRENCES * MINUTE)
    world.rows("UPDATE flows_leader SET until = 0")
    eventually(lambda: world.rows("SELECT min(next_at) FROM flows_crons")[0][0] > datetime.now().timestamp() * 1e6, 20)
    eventually(lambda: all(status == "completed" for (status,) in world.rows("SELECT status FROM flows_runs")), 30)
    # What had fired before is the same event, and no second run.
    assert set(fired(world)) >= set(before)
    assert len(fired(world)) == len(set(fired(world)))
