"""Early-acknowledging tasks of runs whose process or worker is killed: no run waits for ever, with us or without."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from celery import Celery

from tests.celery.apps import remote
from tests.waiting import eventually
from tests.workers import Worker
from tests.worlds import BRISK, World

SOON = 60.0
# Workers of the other team's app, which has not our extension, and of our own.
APPS = {"yard": "tests.celery.apps.depot", "side": "tests.celery.apps.remote"}
BEHIND = {"yard": "pack", "side": "count"}

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World]) -> World:
    return make_world(**BRISK)


@pytest.fixture(scope="module")
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def app(world: World, stack: ExitStack) -> Celery:
    hired(world, stack, "celery", APPS["side"], "-P", "threads", "-c", "4")
    return world.app(remote.sheet)


@pytest.fixture(scope="module", params=APPS)
def queue(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def doomed(world: World, stack: ExitStack, app: Celery, queue: str) -> Worker:
    return hired(world, stack, queue, APPS[queue], "-c", "1")


def hired(world: World, stack: ExitStack, queue: str, app: str, *options: str, **settings: Any) -> Worker:
    return stack.enter_context(world.worker(app, "-Q", queue, "-n", f"{queue}@%h", *options, **settings))


def sent(app: Celery, task: str, *args: Any, queue: str, by: str = "celery") -> Any:
    """A run that goes `by` one queue, and its task by another."""
    return app.tasks["remote.sends"].apply_async(kwargs={"task": task, "args": args, "queue": queue}, queue=by)


def holds(app: Celery, world: World, order: str, queue: str, by: str = "celery") -> Any:
    """A run whose task is at work, and so acknowledged."""
    run = sent(app, "hold", order, order, queue=queue, by=by)
    world.told(f"hold {order}", within=SOON)
    return run


def sends(world: World, run: Any) -> int:
    return int(world.rows("SELECT sends FROM flows_tasks WHERE run_id = :run", run=run.id)[0][0])


def grown_old(world: World, run: Any) -> None:
    """As if its task had been sent a minute earlier."""
    sql = "UPDATE flows_tasks SET sent_at = sent_at - 60000000, next_at = next_at - 60000000 WHERE run_id = :run"
    assert world.rows(f"{sql} RETURNING 1", run=run.id)


def test_a_task_whose_process_is_killed_fails_as_in_celery(world: World, app: Celery, doomed: Worker, queue: str):
    run = holds(app, world, f"child {queue}", queue)
    os.kill(world.pids(f"hold child {queue}")[-1], signal.SIGKILL)
    name, message = run.get(timeout=SOON)
    assert (name, "signal 9" in message) == ("WorkerLostError", True)
    assert world.counts()[f"hold child {queue}"] == 1


def test_tasks_of_a_killed_worker_run_again_the_one_at_work_and_the_one_behind_it(
    world: World, stack: ExitStack, app: Celery, doomed: Worker, queue: str
):
    at_work = holds(app, world, f"worker {queue}", queue)
    behind = sent(app, BEHIND[queue], "behind", queue=queue)
    # It has been taken out of the queue, and no process has it.
    eventually(lambda: doomed.log.count(f".{BEHIND[queue]}["), within=SOON)
    doomed.kill()
    grown_old(world, at_work)
    grown_old(world, behind)
    hired(world, stack, queue, APPS[queue], "-c", "1")
    world.told(f"hold worker {queue}", times=2, within=SOON)
    world.open_gate(f"worker {queue}")
    assert at_work.get(timeout=SOON) == f"worker {queue} held"
    behind.get(timeout=SOON)
    counts = world.counts()
    assert (counts[f"hold worker {queue}"], counts[f"{BEHIND[queue]} behind"]) == (2, 1)


def test_a_lost_task_is_found_though_its_queue_is_never_empty(world: World, stack: ExitStack, app: Celery):
    killed = hired(world, stack, "full", APPS["yard"], "-c", "1")
    lost = holds(app, world, "in a full queue", "full")
    killed.kill()
    killed.wait_end()
    waiting = sent(app, "pack", "waits its turn", queue="full")
    with world.redis() as client:
        eventually(lambda: client.llen("full"), within=SOON)
    grown_old(world, waiting)
    grown_old(world, lost)
    eventually(lambda: sends(world, lost) == 2, within=SOON)
    assert sends(world, waiting) == 1
    hired(world, stack, "full", APPS["yard"], "-c", "1")
    world.open_gate("in a full queue")
    assert (waiting.get(timeout=SOON)["order"], lost.get(timeout=SOON)) == ("waits its turn", "in a full queue held")
    assert world.counts()["pack waits its turn"] == 1


def test_a_lost_task_is_found_though_the_queue_of_its_flow_is_never_empty(world: World, stack: ExitStack, app: Celery):
    flows_worker = hired(world, stack, "busy", APPS["side"], "-P", "threads", "-c", "1")
    killed = hired(world, stack, "lone", APPS["yard"], "-c", "1")
    answering = hired(world, stack, "quick", APPS["yard"], "-c", "1", result_backend=None)
    lost = holds(app, world, "of a busy flow", "lone", by="busy")
    answered = holds(app, world, "answers", "quick", by="busy")
    flows_worker.stop()
    world.open_gate("answers")
    with world.redis() as client:
        # The answer of one waits in the queue, and so do other runs.
        eventually(lambda: client.llen("busy") == 1, within=SOON)
        more = sent(app, "pack", "more", queue="quick", by="busy")
        eventually(lambda: client.llen("busy") == 2, within=SOON)
    killed.kill()
    answering.stop()
    grown_old(world, answered)
    grown_old(world, lost)
    eventually(lambda: sends(world, lost) == 2, within=SOON)
    for queue in ("lone", "quick"):
        hired(world, stack, queue, APPS["yard"], "-c", "1")
    hired(world, stack, "busy", APPS["side"], "-P", "threads", "-c", "1")
    world.open_gate("of a busy flow")
    assert (answered.get(timeout=SOON), lost.get(timeout=SOON)) == ("answers held", "of a busy flow held")
    assert more.get(timeout=SOON)["order"] == "more"
    assert world.counts()["hold answers"] == 1
