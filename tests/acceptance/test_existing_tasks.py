"""Plain tasks under limits over real workers of two services, one of them without our extension, and kills."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from celery import Celery, chain
from redis import Redis

from celeryflows import Event
from tests.acceptance.crew import Crew
from tests.acceptance.witness import counter_url, kill
from tests.celery.apps import adopted, shipping
from tests.waiting import eventually
from tests.worlds import BRISK, World

USERS, EACH, WAYS = 6, 7, 3
SOON = 60.0


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World]) -> World:
    return make_world("postgres", worker_disable_prefetch=True, task_default_queue="ours", **BRISK)


@pytest.fixture
def crew(world: World, counter: Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Crew]:
    monkeypatch.setenv("COUNTER", counter_url(world))
    with ExitStack() as stack:
        stack.enter_context(world.worker("tests.celery.apps.outside", "-c", "1", "-Q", "outside"))
        yield Crew(world, stack, "tests.celery.apps.shipping")


@pytest.fixture
def app(world: World) -> Celery:
    return world.app(shipping.sheet)


def rows(world: World, where: str = "true") -> int:
    return int(world.rows(f"SELECT count(*) FROM flows_runs WHERE {where}")[0][0])


def call_by_all_ways(app: Celery, outside: Any) -> None:
    """As many calls of each user by each way, mixed."""
    task: Any = app.tasks["shipping.ship"]
    for user in range(USERS):
        outside("outside.order", (f"u{user}", EACH), queue="outside")
        app.flows.send([Event("shipping/ordered", {"user": f"u{user}", "no": no}) for no in range(EACH)])  # type: ignore[attr-defined]
        for no in range(EACH):
            task.delay(f"u{user}", no=no)


@pytest.mark.timeout(180)
def test_limits_of_a_plain_task_hold_over_two_workers_of_which_one_is_killed(
    world: World, app: Celery, crew: Crew, counter: Redis
) -> None:
    for _ in range(2):
        crew.hire("-c", "3", "-Q", "ours")
    stranger = world.keep(Celery("stranger", broker=world.broker, backend=world.broker, set_as_current=False))
    call_by_all_ways(app, stranger.send_task)
    count = USERS * EACH * WAYS
    # A message that no run has yet is the broker's, which gives it again after its own time.
    eventually(lambda: rows(world) == count, within=SOON)
    kill(crew, counter)
    crew.hire("-c", "3", "-Q", "ours")
    eventually(lambda: rows(world, "status = 'completed'") == count, within=SOON)

    most = {name: counter.zscore(name, "most") for name in counter.scan_iter("most:*")}
    assert {most[f"most:user u{n}"] for n in range(USERS)} == {shipping.OF_KEY}
    # They were not simply one after the other.
    assert 1 < most["most:all"] <= shipping.LIMIT
    assert world.rows("SELECT 1 FROM flows_slots WHERE run_id IS NOT NULL") == []
    assert world.rows("SELECT 1 FROM flows_queue") == []


@pytest.mark.timeout(120)
def test_a_chain_goes_from_service_to_service(world: World, app: Celery, crew: Crew) -> None:
    crew.hire("-c", "2", "-Q", "ours")
    other = app.signature("outside.add", args=(41,), queue="outside")
    line = chain(app.tasks["shipping.ship"].s("chained"), other, app.tasks["shipping.ship"].si("after"))
    assert line.apply_async().get(timeout=SOON) == 1


def test_a_step_hears_of_a_skipped_task_without_a_result_backend(make_world: Callable[..., World]) -> None:
    world = make_world("sqlite", result_backend="disabled://", **BRISK)
    with world.worker("tests.celery.apps.adopted", "-c", "2"):
        app = world.app(adopted.sheet)
        asking = app.tasks["adopted.asking_once"]
        runs = [app.flows.run(asking.delay(name="asked").id) for _ in range(2)]  # type: ignore[attr-defined]
        ends = sorted(run.get(timeout=SOON)[0] for run in runs)
    assert ends == ["TaskRevokedError", "done"]
