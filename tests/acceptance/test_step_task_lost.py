"""Tasks of runs whose message, worker or answer is lost. All is lost at once, and each test tells what came of one."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from celery import Celery

from tests.celery.apps import remote
from tests.waiting import eventually
from tests.workers import Worker
from tests.worlds import BRISK, World

SOON = 45.0


@dataclass
class Scene:
    """Runs by what they have lost."""

    app: Celery
    lost_message: Any
    killed_worker: Any
    lost_answer: Any
    no_backend: Any
    no_backend_failed: Any


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World]) -> World:
    return make_world("postgres", **BRISK)


@pytest.fixture(scope="module")
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def scene(world: World, stack: ExitStack) -> Scene:
    app = world.app(remote.sheet)
    ours = hired_ours(world, stack)
    doomed = hired(world, stack, "yard", "-c", "1")
    hired(world, stack, "depot", "-c", "1")
    hired(world, stack, "solo", "-P", "solo")
    hired(world, stack, "bare", "-c", "1", result_backend=None)
    found = Scene(
        app,
        lost_message=app.tasks["remote.later"].delay(order="lost", queue="dock"),
        killed_worker=held(app, "killed", "yard"),
        lost_answer=held(app, "answered", "depot"),
        no_backend=app.tasks["remote.sends"].delay(task="pack", args=["bare"], queue="bare"),
        no_backend_failed=app.tasks["remote.sends"].delay(task="refuse", args=["bare"], queue="bare"),
    )
    for order in ("killed", "answered"):
        world.told(f"hold {order}", within=SOON)
    for run in (found.no_backend, found.no_backend_failed):
        run.get(timeout=SOON)
    with world.redis() as client:
        eventually(lambda: client.llen("dock") == 1)
        client.delete("dock")
        doomed.kill()
        # Nobody of ours is there when the task answers, and the answer is lost with its queue.
        ours.stop()
        world.open_gate("answered")
        eventually(lambda: client.llen("celery") > 0, within=SOON)
        client.delete("celery")
    hired_ours(world, stack)
    hired(world, stack, "yard", "-c", "1")
    hired(world, stack, "dock", "-c", "1")
    return found


def hired_ours(world: World, stack: ExitStack) -> Worker:
    options = ("-P", "threads", "-c", "4", "-Q", "celery,side")
    return stack.enter_context(world.worker("tests.celery.apps.remote", *options))


def hired(world: World, stack: ExitStack, queue: str, *options: str, **settings: Any) -> Worker:
    """A worker of the depot's app."""
    name = ("-Q", queue, "-n", f"{queue}@%h")
    return stack.enter_context(world.worker("tests.celery.apps.depot", *name, *options, **settings))


def held(app: Celery, order: str, queue: str) -> Any:
    return app.tasks["remote.sends"].delay(task="hold", args=[order, order], queue=queue)


def test_a_lost_message_is_sent_again(scene: Scene, world: World) -> None:
    assert scene.lost_message.get(timeout=SOON) == "lost"
    assert world.counts()["pack lost"] == 1


def test_a_task_whose_worker_is_killed_runs_again_elsewhere(scene: Scene, world: World) -> None:
    world.told("hold killed", times=2, within=SOON)
    world.open_gate("killed")
    assert scene.killed_worker.get(timeout=SOON) == "killed held"
    assert world.counts()["hold killed"] == 2


def test_a_lost_answer_is_taken_from_the_result_backend(scene: Scene, world: World) -> None:
    assert scene.lost_answer.get(timeout=SOON) == "answered held"
    assert world.counts()["hold answered"] == 1


def test_a_task_at_work_on_a_worker_that_cannot_reply_is_left_alone(scene: Scene, world: World) -> None:
    working = held(scene.app, "working", "solo")
    looked = "SELECT 1 FROM flows_tasks WHERE run_id = :run AND next_at - sent_at > 9000000"
    # Nobody has it but a worker that does not reply meanwhile: it is looked for later, and not at once again.
    eventually(lambda: world.rows(looked, run=working.id), within=SOON)
    world.open_gate("working")
    assert working.get(timeout=SOON) == "working held"
    assert world.counts()["hold working"] == 1


def test_without_a_result_backend_values_arrive_and_errors_are_told_without_their_text(scene: Scene) -> None:
    assert scene.no_backend.get(timeout=SOON)["order"] == "bare"
    name, message = scene.no_backend_failed.get(timeout=SOON)
    assert (name, "its error is in the log of its worker" in message) == ("TaskFailed", True)
