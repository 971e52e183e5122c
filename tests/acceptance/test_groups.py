"""Groups over real workers: branches overlap, the run alone speaks to Celery, no death or doubling repeats a step."""

from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from celery import Celery

from celeryflows.model.runs import Delivery
from tests.celery.apps import spread
from tests.kinds import KINDS
from tests.waiting import eventually
from tests.workers import Worker
from tests.worlds import BRISK, World

SOON = 40.0


@pytest.fixture(scope="module", params=KINDS)
def world(request: pytest.FixtureRequest, make_world: Callable[..., World]) -> World:
    return make_world(request.param, worker_disable_prefetch=True, **BRISK)


@pytest.fixture(scope="module")
def app(world: World) -> Celery:
    return world.app(spread.sheet)


@pytest.fixture(scope="module")
def ten_slots(world: World) -> Iterator[tuple[Worker, Worker]]:
    """Two workers of five slots each."""
    with (
        world.worker("tests.celery.apps.spread", "-P", "threads", "-c", "5") as one,
        world.worker("tests.celery.apps.spread", "-P", "threads", "-c", "5") as other,
    ):
        yield one, other


def told_by(world: World, run_id: str) -> Counter[str]:
    """What the run's steps told, how often."""
    return Counter(line.removeprefix(f"{run_id} ") for line in world.lines() if line.startswith(run_id))


def result_keys(world: World) -> set[str]:
    """The ids under which the result backend keeps something."""
    with world.redis() as client:
        return {key.decode().removeprefix("celery-task-meta-") for key in client.keys("celery-task-meta-*")}


@pytest.mark.usefixtures("ten_slots")
def test_ten_branches_are_at_work_at_once_on_ten_slots(app: Celery, world: World) -> None:
    called = app.tasks["spread.ten"].delay(gate="ten")
    everyone = {f"b{n}": 1 for n in range(10)}
    # None of them ends before its gate opens: all ten run side by side.
    eventually(lambda: told_by(world, called.id) == everyone, within=SOON)
    world.open_gate("ten")
    assert called.get(timeout=SOON) == list(everyone)
    assert told_by(world, called.id) == {**everyone, "after": 1}


@pytest.mark.usefixtures("ten_slots")
def test_an_async_flows_branches_run_side_by_side_too(app: Celery, world: World) -> None:
    called = app.tasks["spread.aten"].delay(gate="aten")
    eventually(lambda: len(told_by(world, called.id)) == 3, within=SOON)
    world.open_gate("aten")
    assert called.get(timeout=SOON) == ["b0", "b1", "b2"]


@pytest.mark.usefixtures("ten_slots")
def test_only_the_run_speaks_to_celery_and_its_callback_is_called_once(app: Celery, world: World) -> None:
    world.open_gate("linked")
    before = result_keys(world)
    flow, take = app.tasks["spread.ten"], app.tasks["spread.take"]
    chained = (flow.s(gate="linked") | take.s("chained")).apply_async()
    world.told("chained taken 10", within=SOON)
    assert chained.get(timeout=SOON) == [f"b{n}" for n in range(10)]
    assert result_keys(world) - before == {chained.id, chained.parent.id}
    assert world.counts()["chained taken 10"] == 1


@pytest.mark.usefixtures("ten_slots")
def test_doubled_messages_of_branches_and_run_double_nothing(app: Celery, world: World) -> None:
    called = app.tasks["spread.ten"].delay(gate="doubled")
    eventually(lambda: len(told_by(world, called.id)) == 10, within=SOON)
    paths = ["", *(f"group[{n}]" for n in range(10))]
    dispatcher = app.flows.runtime.dispatcher
    for _ in range(3):
        dispatcher.send_runs([Delivery(called.id, "spread.ten", None, path) for path in paths])
    world.open_gate("doubled")
    assert len(called.get(timeout=SOON)) == 10
    assert set(told_by(world, called.id).values()) == {1}
    assert world.rows("SELECT turn FROM flows_branches WHERE run_id = :run", run=called.id) == [(1,)] * 10


@pytest.mark.usefixtures("ten_slots")
def test_a_races_winner_ends_it_and_the_losers_are_gone(app: Celery, world: World) -> None:
    called = app.tasks["spread.hare"].delay(gate="hare")
    world.told(f"{called.id} runs", within=SOON)
    world.open_gate("hare")
    assert called.get(timeout=SOON) == [2, "runs"]
    open_ones = "SELECT count(*) FROM flows_branches WHERE run_id = :run AND status NOT IN ('completed', 'cancelled')"
    assert world.rows(open_ones, run=called.id) == [(0,)]
    assert world.rows("SELECT state FROM flows_waits WHERE run_id = :run", run=called.id) == [("closed",)]


@pytest.mark.usefixtures("ten_slots")
def test_messages_of_branches_that_the_broker_lost_are_sent_again(app: Celery, world: World) -> None:
    called = app.tasks["spread.ten"].delay(gate="flushed")
    eventually(lambda: len(told_by(world, called.id)) == 10, within=SOON)
    held = app.tasks["spread.ten"].delay(gate="flushed")
    # All slots are taken: the second run's messages wait in the broker, which loses them.
    eventually(lambda: world.status(held.id) == "queued", within=SOON)
    with world.redis() as client:
        client.flushdb()
    world.open_gate("flushed")
    world.ends(called.id, within=SOON)
    world.ends(held.id, within=60)
    assert set(told_by(world, held.id).values()) == {1}
