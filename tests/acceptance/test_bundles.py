"""Runs that come together over real workers: each is a task of its own, no death or delay of one touches another."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from celery import Celery
from celery.result import AsyncResult

from celeryflows import Event, RunFailed
from celeryflows.celery_bridge.bundling import SPREAD, TASK
from tests.celery.apps import bundled
from tests.waiting import eventually
from tests.workers import Worker
from tests.worlds import BRISK, World

SOON = 30.0


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def world(request: pytest.FixtureRequest, make_world: Callable[..., World]) -> World:
    return make_world(request.param, **BRISK)


@pytest.fixture(scope="module")
def app(world: World) -> Celery:
    # The first worker that a broker ever sees has everything sent again.
    with world.worker("tests.celery.apps.bundled", "-c", "1"):
        eventually(lambda: world.rows("SELECT 1 FROM flows_meta WHERE key = 'broker_epoch'"), within=SOON)
    world.count_as_quick("bundled.one", "bundled.three", "bundled.failing")
    return world.app(bundled.sheet)


@pytest.fixture
def worker(world: World) -> Iterator[Worker]:
    with world.worker("tests.celery.apps.bundled", "-c", "2") as running:
        yield running


def send(app: Celery, world: World, name: str, count: int, *, event: str = "sent", **gates: str) -> dict[str, str]:
    """Send so many events in one list; the runs by their names. `gates`: where the run of that name stays."""
    names = [f"{name}{number}" for number in range(count)]
    ids = app.flows.send([Event(f"bundled/{event}", {"name": one, "gate": gates.get(one)}) for one in names])
    found = dict(world.rows("SELECT event_id, id FROM flows_runs"))
    return {one: found[event_id] for one, event_id in zip(names, ids, strict=True)}


def waiting(world: World) -> int:
    """Messages that no worker has taken."""
    with world.redis() as client:
        return int(client.llen("celery"))


def all_end(world: World, runs: dict[str, str], but: tuple[str, ...] = ()) -> None:
    for name, run in runs.items():
        if name not in but:
            world.ends(run, within=SOON)


def all_sent_again(world: World, runs: dict[str, str]) -> None:
    """They end, as time goes by quickly."""

    def ended() -> bool:
        world.age_messages(60)
        statuses = dict(world.rows("SELECT id, status FROM flows_runs"))
        return all(statuses[run] == "completed" for run in runs.values())

    eventually(ended, within=SOON, every=0.5)


def test_each_run_of_a_bundle_is_a_task_of_its_own(app: Celery, world: World) -> None:
    runs = send(app, world, "own", 8 * SPREAD)
    assert waiting(world) == SPREAD
    with world.worker("tests.celery.apps.bundled", "-c", "2") as worker:
        assert {name: AsyncResult(run, app=app).get(timeout=SOON) for name, run in runs.items()} == {
            name: name for name in runs
        }
        # Celery tells that a task is over once its result can be had.
        eventually(lambda: all(world.counts()[f"over bundled.one {run} SUCCESS"] for run in runs.values()))
        counts = world.counts()
        for name, run in runs.items():
            assert counts[f"{name} step"] == 1
            assert counts[f"{name} is {run} {run}"] == 1
            assert counts[f"begins bundled.one {run}"] == counts[f"over bundled.one {run} SUCCESS"] == 1
            assert f"bundled.one[{run}] succeeded" in worker.log
    assert sum(count for line, count in counts.items() if line.startswith(f"begins {TASK} ")) == SPREAD


@pytest.mark.parametrize("pool", [("-P", "threads", "-c", "2"), ("-P", "solo"), ("-P", "gevent", "-c", "2")])
def test_every_pool_takes_bundles(app: Celery, world: World, pool: tuple[str, ...]) -> None:
    runs = send(app, world, f"{pool[1]}.", 2 * SPREAD)
    assert waiting(world) == SPREAD
    with world.worker("tests.celery.apps.bundled", *pool):
        all_end(world, runs)
    counts = world.counts()
    assert [counts[f"{name} step"] for name in runs] == [1] * len(runs)


def test_a_failed_run_fails_alone(app: Celery, world: World, worker: Worker) -> None:
    ids = app.flows.send([Event("bundled/failing", {"number": number}) for number in range(4 * SPREAD)])
    found = dict(world.rows("SELECT event_id, id FROM flows_runs"))
    for number, event in enumerate(ids):
        result = AsyncResult(found[event], app=app)
        if number % 2:
            with pytest.raises(ValueError, match="odd"):
                result.get(timeout=SOON)
            with pytest.raises(RunFailed, match="odd"):
                app.flows.run(found[event]).get(timeout=SOON)
        else:
            assert result.get(timeout=SOON) == "even"
    # Celery writes the line once the result can be had.
    eventually(lambda: worker.log.count("raised unexpected: ValueError('odd')") == 2 * SPREAD)


def test_who_comes_behind_a_slow_one_does_not_wait_for_it(app: Celery, world: World, worker: Worker) -> None:
    runs = send(app, world, "slow", 3 * SPREAD, slow0="slow", slow3="slow")
    # Two processes: both stay at the first of their bundle, and six more bundles are inside the worker.
    world.told("slow0 stays")
    world.told("slow3 stays")
    with world.worker("tests.celery.apps.bundled", "-c", "1"):
        all_end(world, runs, but=("slow0", "slow3"))
        assert waiting(world) == 0
    world.open_gate("slow")
    all_end(world, runs)
    assert [world.counts()[f"{name} step"] for name in runs] == [1] * len(runs)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_killed_process_takes_only_the_run_it_was_at(app: Celery, world: World, worker: Worker, place: int) -> None:
    name = f"killed{place}."
    runs = send(app, world, name, 3 * SPREAD, **{f"{name}{place}": name})
    world.told(f"{name}{place} stays")
    [child] = world.pids(f"{name}{place} stays")
    os.kill(child, signal.SIGKILL)
    world.told(f"{name}{place} stays", times=2)
    world.open_gate(name)
    all_end(world, runs)
    counts = world.counts()
    assert [counts[f"{one} step"] for one in runs] == [1] * len(runs)
    assert counts[f"{name}{place} stays"] == 2
    lost = dict(world.rows("SELECT id, lost_at IS NOT NULL FROM flows_runs"))
    assert [one for one, run in runs.items() if lost[run]] == [f"{name}{place}"]


def test_a_task_that_takes_its_time_behind_its_turn_holds_nobody(app: Celery, world: World, worker: Worker) -> None:
    """On PostgreSQL the next run of its bundle is claimed by then."""
    runs = send(app, world, "behind", 3 * SPREAD, behind0="behind")
    world.told("behind stays")
    all_end(world, runs)
    world.open_gate("behind")
    counts = world.counts()
    assert [counts[f"{one} step"] for one in runs] == [1] * len(runs)


@pytest.mark.parametrize("place", [0, 1])
def test_a_process_that_is_killed_behind_a_turn_takes_no_run_along(
    app: Celery, world: World, worker: Worker, place: int
) -> None:
    name = f"behind.killed{place}."
    runs = send(app, world, name, 3 * SPREAD, **{f"{name}{place}": name})
    world.told(f"{name} stays")
    [child] = world.pids(f"{name} stays")
    os.kill(child, signal.SIGKILL)
    world.open_gate(name)
    all_end(world, runs)
    counts = world.counts()
    assert [counts[f"{one} step"] for one in runs] == [1] * len(runs)


def looked_for_children(world: World) -> int:
    """A beat of the only worker, with which it looks what its pool has lost."""
    return int(world.rows("SELECT max(beat_at) FROM flows_workers")[0][0])


@pytest.mark.parametrize("event", ["sent", "spread"])
def test_what_takes_its_time_is_not_taken_for_lost(app: Celery, world: World, worker: Worker, event: str) -> None:
    name = f"long.{event}."
    runs = send(app, world, name, 2 * SPREAD, event=event, **{f"{name}1": name})
    world.told(f"{name}1 stays")
    since = looked_for_children(world)
    eventually(lambda: looked_for_children(world) > since + 4_000_000, within=SOON)
    world.open_gate(name)
    all_end(world, runs)
    assert world.counts()[f"{name}1 stays"] == 1
    assert world.rows("SELECT count(*) FROM flows_branches WHERE lost > 0") == [(0,)]
    assert "lost its process" not in worker.log


def test_a_branch_of_a_killed_process_is_found(app: Celery, world: World, worker: Worker) -> None:
    runs = send(app, world, "branch", 2 * SPREAD, event="spread", branch1="branch")
    world.told("branch1 stays")
    [child] = world.pids("branch1 stays")
    os.kill(child, signal.SIGKILL)
    world.told("branch1 stays", times=2)
    world.open_gate("branch")
    all_end(world, runs)
    counts = world.counts()
    assert [counts[f"{one}/b{n} step"] for one in runs for n in range(2)] == [1] * 4 * SPREAD


def test_what_a_dead_worker_had_taken_goes_on_elsewhere(app: Celery, world: World) -> None:
    with world.worker("tests.celery.apps.bundled", "-c", "1") as dies:
        runs = send(app, world, "dead", 6 * SPREAD, dead0="dead")
        world.told("dead0 stays")
        dies.kill()
    with world.worker("tests.celery.apps.bundled", "-c", "2"):
        world.open_gate("dead")
        all_sent_again(world, runs)
    assert {world.counts()[f"{name} step"] for name in runs} == {1}


def test_a_worker_that_does_not_know_the_flow_gives_its_runs_back(app: Celery, world: World) -> None:
    runs = send(app, world, "strange", 2 * SPREAD)
    with world.worker("tests.celery.apps.spread", "-c", "1"):

        def given_back() -> bool:
            found = {row[0] for row in world.rows("SELECT id FROM flows_runs WHERE status = 'queued' AND sends > 0")}
            return found >= set(runs.values())

        eventually(given_back, within=SOON)
    with world.worker("tests.celery.apps.bundled", "-c", "1"):
        all_sent_again(world, runs)


def test_who_watches_the_workers_tasks_sees_each_run(app: Celery, world: World) -> None:
    seen: set[tuple[str, str]] = set()
    with app.connection_for_read() as connection, world.worker("tests.celery.apps.bundled", "-c", "1", "-E"):
        handlers = {"*": lambda event: seen.add((event["type"], event.get("uuid", "")))}
        receiver = app.events.Receiver(connection, handlers=handlers)
        with receiver.consumer_context(wakeup=False) as (heard, _, _):
            runs = send(app, world, "seen", 2 * SPREAD)
            wanted = {("task-succeeded", run) for run in runs.values()}

            def all_seen() -> bool:
                with suppress(TimeoutError):
                    while not wanted <= seen:
                        heard.drain_events(timeout=1)
                return wanted <= seen

            eventually(all_seen, within=SOON)


def test_a_run_at_work_in_a_bundle_is_ended_by_hand(app: Celery, world: World, worker: Worker) -> None:
    runs = send(app, world, "ended", 2 * SPREAD, ended1="ended")
    world.told("ended1 stays")
    [child] = world.pids("ended1 stays")
    all_end(world, runs, but=("ended1",))
    assert app.flows.run(runs["ended1"]).cancel("by hand", terminate=True)
    eventually(lambda: child not in worker.children, within=SOON)
    assert world.status(runs["ended1"]) == "cancelled"
