"""Limits over real workers: never exceeded, whoever is killed. A counter in Redis, taken in the steps, is witness."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise

import pytest
from celery import Celery
from redis import Redis

from celeryflows import Event
from tests.acceptance.crew import Crew
from tests.acceptance.witness import counter_url, kill
from tests.celery.apps import limited
from tests.waiting import eventually
from tests.worlds import BRISK, World

USERS = 10


@pytest.fixture
def world(request: pytest.FixtureRequest, make_world: Callable[..., World]) -> World:
    return make_world(request.param, worker_disable_prefetch=True, **BRISK)


@pytest.fixture
def crew(world: World, counter: Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Crew]:
    monkeypatch.setenv("COUNTER", counter_url(world))
    with ExitStack() as stack:
        yield Crew(world, stack, "tests.celery.apps.limited")


@pytest.fixture
def app(world: World) -> Celery:
    return world.app(limited.sheet)


def send(app: Celery, count: int) -> None:
    orders = [Event("limited/ordered", {"no": no, "user": f"u{no % USERS}"}) for no in range(count)]
    for start in range(0, count, 50):
        app.flows.send(orders[start : start + 50])  # type: ignore[attr-defined]


def done(world: World) -> int:
    return int(world.rows("SELECT count(*) FROM flows_runs WHERE status = 'completed'")[0][0])


def nobody_was_too_many(world: World, counter: Redis) -> None:
    most = {name: counter.zscore(name, "most") for name in counter.scan_iter("most:*")}
    assert most["most:all"] <= limited.LIMIT
    assert {most[f"most:user u{n}"] for n in range(USERS)} == {limited.OF_KEY}
    # They were not simply one after the other.
    assert most["most:all"] > 1
    assert world.rows("SELECT 1 FROM flows_slots WHERE run_id IS NOT NULL") == []
    assert world.rows("SELECT 1 FROM flows_queue") == []


def all_run(world: World, app: Celery, crew: Crew, counter: Redis, count: int, kills: int) -> None:
    crew.hire_many(4, "-c", "2")
    send(app, count)
    for number in range(kills):
        eventually(lambda n=number: done(world) > count * (n + 1) // (kills + 2), within=180)
        kill(crew, counter)
        crew.hire("-c", "2")
    eventually(lambda: done(world) == count, within=60 + count / 5)
    nobody_was_too_many(world, counter)


@pytest.mark.parametrize("world", ["sqlite"], indirect=True)
@pytest.mark.timeout(240)
def test_two_limits_hold_over_four_workers_of_which_two_are_killed(
    world: World, app: Celery, crew: Crew, counter: Redis
) -> None:
    all_run(world, app, crew, counter, 200, kills=2)


@pytest.mark.parametrize("world", ["postgres"], indirect=True)
@pytest.mark.timeout(120)
def test_a_throttle_starts_runs_at_an_even_rate(world: World, app: Celery, crew: Crew, counter: Redis) -> None:
    crew.hire("-c", "2")
    app.flows.send([Event("limited/paced", {"no": no}) for no in range(9)])  # type: ignore[attr-defined]
    eventually(lambda: counter.llen("paced") == 9, within=60)
    # When they were let in; what a message takes on its way is the broker's and the machine's.
    let_in = [row[0] / 1e6 for row in world.rows("SELECT sent_at FROM flows_runs ORDER BY sent_at")]
    gaps = [later - earlier for earlier, later in pairwise(let_in)]
    assert sum(gaps) / len(gaps) == pytest.approx(0.5, rel=0.2)
    # Of one that came late the next may make up a fifth.
    assert min(gaps) > 0.39
