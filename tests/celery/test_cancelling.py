"""Cancels with a real worker: by event, asleep and at work; terminate; a paused flow; a bound of its time."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from celery import Celery
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult

from tests.celery.apps import shop
from tests.kinds import KINDS
from tests.waiting import eventually
from tests.worlds import World

APP = "tests.celery.apps.shop"
SOON = 15.0


@pytest.fixture(scope="module", params=KINDS)
def world(request: pytest.FixtureRequest, make_world: Callable[..., World]) -> Iterator[World]:
    made = make_world(request.param)
    with made.worker(APP, "-c", "2"):
        yield made


@pytest.fixture(scope="module")
def app(world: World) -> Celery:
    return world.app(shop.sheet)


def start(app: Celery, **data: str) -> AsyncResult:
    """A run of `booked`."""
    result: AsyncResult = app.tasks["shop.booked"].delay(**data)
    return result


def reads_revoked(app: Celery, run_id: str) -> None:
    """As a process sees it that has only the id."""
    with pytest.raises(TaskRevokedError):
        AsyncResult(run_id, app=app).get(timeout=SOON)


def at_work(world: World, run_id: str) -> int:
    """The process that is in the step of the run."""
    world.told(f"booked {run_id}")
    [child] = world.pids(f"booked {run_id}")
    return child


def dies(pid: int) -> None:
    """Wait until the process has ended."""
    eventually(lambda: not _is_alive(pid), within=SOON)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_an_event_cancels_a_sleeping_run(app: Celery, world: World) -> None:
    mine, other = start(app, key="k1"), start(app, key="k2")
    for run in (mine, other):
        eventually(lambda run=run: world.status(run.id) == "suspended", within=SOON)
    [event] = app.flows.send("shop/left", {"key": "k1"})
    reads_revoked(app, mine.id)
    assert app.flows.run(mine.id).reason == f"cancelled by event shop/left ({event})"
    assert world.status(other.id) == "suspended"


def test_an_event_stops_a_run_at_work_at_its_next_boundary(app: Celery, world: World) -> None:
    [event] = app.flows.send("shop/booked", {"key": "k3", "gate": "k3"})
    [row] = eventually(lambda: world.rows("SELECT id FROM flows_runs WHERE event_id = :id", id=event))
    child = at_work(world, row[0])
    app.flows.send("shop/left", {"key": "k3"})
    reads_revoked(app, row[0])
    world.open_gate("k3")
    # The step's late end is recorded as such; its worker goes on with others.
    eventually(lambda: world.rows("SELECT 1 FROM flows_steps WHERE run_id = :id AND state = 'late'", id=row[0]))
    assert app.tasks["shop.double"].delay(value=1).get(timeout=SOON) == 2
    assert (world.status(row[0]), world.counts()[f"confirmed {row[0]}"]) == ("cancelled", 0)
    assert _is_alive(child)
    assert AsyncResult(row[0], app=app).state == "REVOKED"


@pytest.mark.parametrize("how", ["handle", "result", "bare id", "later"])
def test_terminate_ends_the_process_at_work_and_the_run_is_not_tried_again(app: Celery, world: World, how: str) -> None:
    run = start(app, key=how, gate="never opened")
    child = at_work(world, run.id)
    handle = app.flows.run(run.id)
    if how == "handle":
        assert handle.cancel("stuck", terminate=True)
    elif how == "result":
        run.revoke(terminate=True)
    elif how == "bare id":
        AsyncResult(run.id, app=app).revoke(terminate=True)
    else:
        assert handle.cancel("stuck")
        assert _is_alive(child)
        assert handle.cancel(terminate=True) is False
    dies(child)
    reads_revoked(app, run.id)
    eventually(lambda: world.status(run.id) == "cancelled", within=SOON)
    # Both slots of the worker are there again, and neither has taken it up.
    results = [app.tasks["shop.double"].delay(value=n) for n in range(4)]
    assert [result.get(timeout=SOON) for result in results] == [0, 2, 4, 6]
    assert world.counts()[f"booked {run.id}"] == 1
    assert world.status(run.id) == "cancelled"


def test_terminate_of_a_sleeping_run_kills_nobody(app: Celery, world: World) -> None:
    run = start(app, key="asleep")
    eventually(lambda: world.status(run.id) == "suspended", within=SOON)
    other = start(app, key="other", gate="other")
    child = at_work(world, other.id)
    assert app.flows.run(run.id).cancel(terminate=True)
    reads_revoked(app, run.id)
    world.open_gate("other")
    assert other.get(timeout=SOON) == "confirmed"
    os.kill(child, 0)


def test_a_call_of_a_paused_flow_reads_revoked(app: Celery) -> None:
    # What a sender knows the store lacks until a worker has come; this one has.
    app.flows.pause("shop.booked")
    try:
        run = start(app, key="paused")
        reads_revoked(app, run.id)
        assert app.flows.run(run.id).reason == "paused"
    finally:
        app.flows.resume("shop.booked")
    assert start(app, key="resumed", gate="k3").get(timeout=SOON) == "confirmed"


def test_a_run_past_its_bound_reads_revoked(app: Celery) -> None:
    run = app.tasks["shop.hasty"].delay()
    reads_revoked(app, run.id)
    assert app.flows.run(run.id).reason == "timeouts.finish: it had not ended after 1 s"
