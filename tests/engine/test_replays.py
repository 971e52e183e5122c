"""A replay starts the ended runs of a flow again: each exactly once, at a pace, whoever drives it."""

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from celeryflows import ExpressionError, RerunRefused, Status, UnknownFlow, ids
from celeryflows.clock import TurnedClock
from celeryflows.durations import SECOND, to_datetime
from celeryflows.engine import replay
from celeryflows.engine.replay import drive_due
from celeryflows.engine.rerun import delivery_of
from tests.engine.world import NEW_YEAR, World, store_at


@pytest.fixture
def stored(store_url: str) -> Iterator[World]:
    """A world with a turned clock on a store of each kind."""
    world = World(store_at(store_url, TurnedClock(NEW_YEAR)))
    yield world
    world.close()


def fails(world: World, runs: int = 5) -> list[str]:
    """Runs of a flow that failed, a second apart, and one that did not; the ids of those that failed."""

    @world.flow(name="f", trigger="a/b", retries=0)
    def handler(ctx: Any) -> int:
        if ctx.event.data.get("bad") and not world.mended:  # type: ignore[attr-defined]
            raise ValueError("bad")
        return int(ctx.event.data["n"])

    world.mended = False  # type: ignore[attr-defined]
    for n in range(runs):
        world.send("a/b", {"n": n, "bad": True})
        world.advance("1s")
    world.send("a/b", {"n": 99})
    world.mended = True  # type: ignore[attr-defined]
    return [run.id for run in world.runs("f", "failed")]


def origins(world: World) -> list[str]:
    return [row[0] for row in world.store_rows("SELECT origin FROM flows_runs WHERE origin IS NOT NULL ORDER BY id")]


def outputs(world: World) -> list[int]:
    """What the runs gave that a replay started, in the order in which they were started."""
    rows = world.store_rows(
        "SELECT output FROM flows_runs WHERE origin IS NOT NULL AND status = 'completed' ORDER BY started_at, output"
    )
    return [int(row[0]) for row in rows]


def test_a_replay_starts_each_failed_run_once(stored: World) -> None:
    failed = fails(stored)

    made = stored.flows.replay("f", pace=1000)
    stored.advance("1s")

    assert sorted(origins(stored)) == sorted(failed)
    assert outputs(stored) == [0, 1, 2, 3, 4]
    assert (made.total, made.done, made.cancelled) == (5, 5, None)
    assert made.ended_at is not None
    assert made.runs == {Status.COMPLETED: 5}
    assert [one.id for one in stored.flows.replays()] == [made.id]


def test_a_replay_keeps_its_pace(world: World) -> None:
    fails(world)
    made = world.flows.replay("f", pace=0.5)

    done = []
    for _ in range(6):
        world.run_due()
        done.append(made.done)
        world.advance("2s")

    assert done == [1, 2, 3, 4, 5, 5]


def test_a_pace_is_a_number_a_second_or_a_rate_as_celery_writes_it(world: World) -> None:
    fails(world)
    made = world.flows.replay("f", pace="30/m")
    world.advance("3s")

    assert made.done == 2


def test_what_nobody_drove_is_not_made_up_for_at_once(world: World) -> None:
    fails(world, 30)
    made = world.flows.replay("f", pace=10)
    world.clock.turn(60 * SECOND)

    drive_due(world.runtime)

    assert made.done == 10


@pytest.mark.parametrize("pace", [0, -1, 1001, "fast", "1/d", "1/y", True, None, float("nan"), "0/s"])
def test_a_pace_that_is_none_is_refused(world: World, pace: Any) -> None:
    fails(world, 1)

    with pytest.raises(RerunRefused, match="runs a second, such as 10"):
        world.flows.replay("f", pace=pace)


def test_a_range_of_time_takes_the_runs_that_were_made_in_it(stored: World) -> None:
    fails(stored)

    stored.flows.replay(
        "f", after=to_datetime(NEW_YEAR + SECOND), before=to_datetime(NEW_YEAR + 3 * SECOND).isoformat(), pace=1000
    )
    stored.advance("1s")

    assert outputs(stored) == [1, 2]


def test_a_condition_is_asked_of_the_events(stored: World) -> None:
    fails(stored)

    made = stored.flows.replay("f", if_exp="event.data.n % 2 == 1", status=["failed", "completed"], pace=1000)
    stored.advance("1s")

    assert made.total == 3
    assert outputs(stored) == [1, 3, 99]


def test_a_replay_never_takes_its_own_runs(world: World) -> None:
    fails(world)
    world.mended = False  # type: ignore[attr-defined]
    made = world.flows.replay("f", pace=1000)
    world.advance("10s")

    assert (made.total, made.done) == (5, 5)
    assert made.runs == {Status.FAILED: 5}
    again = world.flows.replay("f", pace=1000)
    world.advance("1s")
    assert again.total == again.done == 10


def test_runs_that_ended_later_are_not_taken(world: World) -> None:
    fails(world, 2)
    made = world.flows.replay("f", pace=1)
    world.mended = False  # type: ignore[attr-defined]
    world.tick()
    for n in range(3):
        world.send("a/b", {"n": n, "bad": True})
    world.mended = True  # type: ignore[attr-defined]
    world.advance("1m")

    assert made.done == 2


def test_runs_of_other_flows_are_left_alone(world: World) -> None:
    world.flow(name="other", trigger="a/b", retries=0)(lambda ctx: 1 / 0)
    fails(world, 2)
    world.flows.replay("f", pace=1000)
    world.advance("1s")

    assert len(world.runs("other")) == 3


def test_a_replay_of_nothing_is_over_at_once(world: World) -> None:
    fails(world, 0)
    made = world.flows.replay("f")
    world.run_due()

    assert (made.total, made.done) == (0, 0)
    assert made.ended_at is not None


def test_a_look_is_bounded_and_goes_on_where_it_ended(stored: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "LOOK", 2)
    monkeypatch.setattr(replay, "PIECE", 1)
    fails(stored, 7)

    made = stored.flows.replay("f", pace=1000)
    stored.advance("1s")

    assert outputs(stored) == list(range(7))
    assert made.total == made.done == 7


@pytest.mark.parametrize(
    ("asked", "said"),
    [({"status": "running"}, "is one of cancelled, completed, failed, skipped"), ({"status": []}, "got \\[\\]")],
)
def test_runs_that_have_not_ended_cannot_be_replayed(world: World, asked: Any, said: str) -> None:
    fails(world, 1)

    with pytest.raises(RerunRefused, match=said):
        world.flows.replay("f", **asked)


def test_an_unknown_flow_or_a_bad_condition_is_refused(world: World) -> None:
    fails(world, 1)

    with pytest.raises(UnknownFlow, match="No flow 'g'"):
        world.flows.replay("g")
    with pytest.raises(ExpressionError):
        world.flows.replay("f", if_exp="event.data.n >")
    assert world.flows.replays() == []


# --- whoever drives


def test_two_drivers_of_one_moment_start_each_run_once(stored: World) -> None:
    fails(stored)
    stored.flows.replay("f", pace=1000)
    with stored.store.connection() as connection:
        (row,) = connection.replays.due()
        started = [replay._drive(stored.runtime, connection, row) for _ in range(2)]
    stored.broker.send_runs([delivery_of(stored.runtime, run) for run in started[0]])

    assert [len(deliveries) for deliveries in started] == [1, 0]
    assert len(origins(stored)) == 1
    stored.advance("1s")
    assert outputs(stored) == [0, 1, 2, 3, 4]


def test_a_piece_whose_reply_was_lost_is_sent_and_not_doubled(stored: World) -> None:
    fails(stored)
    made = stored.flows.replay("f", pace=1000)
    with stored.store.connection() as connection:
        (row,) = connection.replays.due()
        piece = replay._next_piece(connection, row, None, replay.quota(row.next_at, stored.clock.now(), 1000, 3))
        work = replay._started(stored.runtime, row, piece)
        # The first try is committed, and its reply lost: the second one finds the cursor moved on.
        first = connection.transact(work)
        second = connection.transact(work)

    assert first == second != []
    assert made.done == len(first) == 1


def test_a_cancelled_replay_starts_no_more_and_what_it_started_goes_on(stored: World) -> None:
    fails(stored)
    made = stored.flows.replay("f", pace=1)
    stored.advance("1s")

    assert made.cancel(because="enough") is True
    assert made.cancel() is False
    stored.advance("1m")

    assert (made.done, made.total, made.cancelled) == (2, 5, "enough")
    assert outputs(stored) == [0, 1]
    assert made.ended_at is not None


def test_a_replay_counts_its_own_runs_and_no_rerun_or_other_replay_of_its_millisecond(
    stored: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = fails(stored)
    moment = time.time_ns()
    monkeypatch.setattr(ids, "time", SimpleNamespace(time_ns=lambda: moment))

    made = stored.flows.replay("f", pace=1000)
    again = [stored.flows.run(run).rerun() for run in failed[:2]]
    stored.advance("1m")
    assert all(run.id[: ids.SHARED] == made.id[: ids.SHARED] for run in again)
    assert made.runs == {Status.COMPLETED: 5}

    other = stored.flows.replay("f", pace=1000, before=to_datetime(NEW_YEAR + 2 * SECOND))
    stored.advance("1m")
    assert other.id[: ids.SHARED] == made.id[: ids.SHARED]
    assert (made.runs, other.runs) == ({Status.COMPLETED: 5}, {Status.COMPLETED: other.total})
    assert 0 < other.total < 5


def test_a_replay_that_is_not_there_says_so(world: World) -> None:
    fails(world, 0)
    made = world.flows.replay("f")
    world.store_rows("DELETE FROM flows_replays RETURNING id")

    with pytest.raises(RerunRefused, match="No replay"):
        _ = made.done


# --- paused flows


def test_a_replay_waits_while_its_flow_is_paused_or_gone(world: World) -> None:
    fails(world)
    made = world.flows.replay("f", pace=1000)
    world.store_rows("UPDATE flows_flows SET paused_at = 1 WHERE name = 'f' RETURNING name")
    world.advance("10s")
    assert made.done == 0

    world.store_rows("UPDATE flows_flows SET paused_at = NULL WHERE name = 'f' RETURNING name")
    world.advance("10s")
    assert made.done == 5


def test_skipped_runs_are_started_later_but_for_duplicates(world: World) -> None:
    fails(world, 0)
    world.send("a/b", {"n": 1}, id="mine")
    world.send("a/b", {"n": 1}, id="mine")
    world.send("a/b", {"n": 2})
    paused = world.runs("f")[-1]
    world.store_rows(
        "UPDATE flows_runs SET status = 'skipped', reason = 'paused: x', output = NULL WHERE id = :id RETURNING id",
        id=paused.id,
    )

    made = world.flows.replay("f", status="skipped")
    world.advance("1s")

    assert made.total == 1
    assert outputs(world) == [2]
    assert origins(world) == [paused.id]


def test_replayed_runs_start_under_the_newest_version(world: World) -> None:
    fails(world, 1)
    newer = world.process()
    newer.flow(name="f", trigger="a/b", version="2")(lambda ctx: ctx.version)
    newer.start_worker()
    newer.flows.replay("f", pace=1000)
    newer.run_due()

    (new,) = [run for run in world.runs("f") if run.id not in origins(world)][-1:]
    assert newer.flows.run(new.id).output == "2"
