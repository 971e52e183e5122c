"""Bounds of a run's time: queued for too long, at work for too long. Cancelled with the reason, nothing else."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from celeryflows import Event, Flows, Status, Timeouts
from celeryflows.engine.resume import end_overdue, expire_unstarted, requeue
from celeryflows.engine.turn import take_turn
from celeryflows.model.events import FLOW_INVOKED
from celeryflows.store.runs import Held
from celeryflows.testing import FlowsTester
from tests.engine.world import World, us


@pytest.fixture
def tester(flows: Flows) -> Iterator[FlowsTester]:
    with FlowsTester(flows) as tester:
        yield tester


def declare(world: World, **options: Any) -> Any:
    """A flow that sleeps for two hours."""

    @world.flow(name="job", trigger="job/asked", **options)
    def job(ctx: Any) -> str:
        ctx.step.sleep("nap", "2h")
        return "done"

    world.start_worker()
    return job


def pass_time(world: World, duration: str) -> None:
    """Time passes while no worker takes a turn; the leader goes on."""
    world.clock.turn(us(duration))
    expire_unstarted(world.runtime)
    end_overdue(world.runtime)


# -- start


def test_a_run_that_is_queued_for_too_long_is_cancelled_with_the_bound(world: World) -> None:
    declare(world, timeouts=Timeouts(start="1h"))
    world.flows.send("job/asked")
    pass_time(world, "59m 59s")
    assert world.only_run().status == Status.QUEUED
    pass_time(world, "1s")
    run = world.only_run()
    assert (run.status, run.reason) == (Status.CANCELLED, "timeouts.start: it had not started after 1 hour")
    world.drain()
    assert run.started_at is None


def test_a_run_that_started_in_time_may_go_on_for_long(world: World) -> None:
    declare(world, timeouts=Timeouts(start="1h"))
    world.send("job/asked")
    world.advance("2h")
    assert world.only_run().output == "done"


def test_a_scheduled_run_has_the_bound_from_its_moment_on(world: World) -> None:
    declare(world, timeouts=Timeouts(start="1h"))
    at = world.clock.now() + us("3h")
    world.flows.send(Event("job/asked", ts=at // 1000))  # type: ignore[arg-type]
    world.advance("2h 59m")
    assert world.only_run().status == Status.SCHEDULED
    world.advance("10m")
    assert world.only_run().status == Status.SUSPENDED


@pytest.mark.parametrize(
    ("expires", "reason"),
    [(60, "expired before it started"), (7200, "timeouts.start: it had not started after 1 hour")],
)
def test_of_the_bound_and_a_calls_own_the_smaller_wins(world: World, expires: int, reason: str) -> None:
    job = declare(world, timeouts=Timeouts(start="1h"))
    job.apply_async(expires=expires)
    pass_time(world, "1m" if expires == 60 else "1h")
    assert (world.only_run().status, world.only_run().reason) == (Status.CANCELLED, reason)


def test_a_claim_that_came_first_is_not_cancelled_by_the_bound_of_the_start(world: World, monkeypatch: Any) -> None:
    declare(world, timeouts=Timeouts(start="1h"))
    world.flows.send("job/asked")
    world.clock.turn(us("1h"))
    seen = world.store.transact(lambda tx: tx.bounds.past("expires_at"))
    assert [late.id for late in seen] == [world.only_run().id]
    world.drain()
    monkeypatch.setattr("celeryflows.store.bounds.Bounds.past", lambda *_: seen)
    expire_unstarted(world.runtime)
    assert world.only_run().status == Status.SUSPENDED


# -- finish


def test_a_run_that_does_not_end_in_time_is_cancelled_with_the_bound(world: World) -> None:
    declare(world, timeouts=Timeouts(finish="90m"))
    world.send("job/asked")
    world.advance("89m")
    assert world.only_run().status == Status.SUSPENDED
    world.advance("1m")
    run = world.only_run()
    assert (run.status, run.reason) == (Status.CANCELLED, "timeouts.finish: it had not ended after 1h 30m")
    world.advance("3h")
    assert run.output is None


def test_the_bound_counts_from_the_first_turn_not_from_the_creation(world: World) -> None:
    declare(world, timeouts=Timeouts(finish="150m"))
    world.flows.send("job/asked")
    world.clock.turn(us("10h"))
    world.advance("2h")
    assert world.only_run().output == "done"


def test_a_run_that_ended_in_time_stays_so_and_its_bound_is_forgotten(world: World) -> None:
    declare(world, timeouts=Timeouts(finish="3h"))
    world.send("job/asked")
    world.advance("5h")
    assert world.only_run().output == "done"
    with world.store.connection() as connection:
        assert connection.execute("SELECT finish_by FROM flows_runs") == [(None,)]


def test_a_running_run_past_its_bound_stops_at_the_next_boundary(flows: Flows, tester: FlowsTester) -> None:
    @flows.flow(timeouts=Timeouts(finish="1h"))
    def slow(ctx: Any) -> None:
        ctx.step.run("first", dawdle)
        ctx.step.run("second", lambda: 2)

    def dawdle() -> None:
        tester._clock.turn(us("2h"))
        end_overdue(tester._runtime)

    run = tester.start(slow)
    assert run.status == Status.CANCELLED
    assert "timeouts.finish" in str(run.reason)
    assert tester.calls("second") == 0


def test_the_bound_survives_the_loss_of_the_turn_that_was_to_set_it(world: World, monkeypatch: Any) -> None:
    declare(world, timeouts=Timeouts(finish="1h"))
    world.flows.send("job/asked")
    run_id = world.broker.waiting.popleft().run_id
    with world.store.connection() as connection:
        claim = connection.runs.claim(run_id, "w-dead", 7)
    assert claim is not None
    requeue(world.runtime, Held(run_id, claim.turn, "w-dead", 7))
    world.advance("59m")
    assert world.only_run().status == Status.SUSPENDED
    world.advance("1m")
    assert world.only_run().status == Status.CANCELLED


def test_past_a_bound_no_failure_handler_is_called_and_the_end_is_told_once(world: World) -> None:
    told: list[Any] = []
    failures: list[Any] = []
    world.flow(lambda ctx: told.append(ctx.event.data["reason"]), name="watcher", trigger="flows/run.cancelled")
    declare(world, timeouts=Timeouts(finish="1h"), on_failure=lambda ctx: failures.append(ctx))
    world.send("job/asked")
    world.advance("1h")
    world.advance("5h")
    assert told == ["timeouts.finish: it had not ended after 1 hour"]
    assert failures == []


def test_flows_without_bounds_write_none(shared: World) -> None:
    declare(shared)
    shared.send("job/asked")
    with shared.store.connection() as connection:
        rows = connection.execute("SELECT status, expires_at, finish_by FROM flows_runs")
    assert rows == [("suspended", None, None)]


def test_bounds_are_kept_on_the_stores_own_clock(shared: World) -> None:
    job = declare(shared, timeouts=Timeouts(start="1h", finish=timedelta(hours=2)))
    shared.flows.send([Event("job/asked"), Event("job/asked")])
    job.apply_async(expires=60)
    with shared.store.connection() as connection:
        rows = connection.execute("SELECT expires_at - created_at FROM flows_runs ORDER BY id")
        shorter, *whole = sorted(row[0] for row in rows)
    assert 59_000_000 < shorter < 61_000_000
    assert all(abs(row - us("1h")) < 1_000_000 for row in whole)
    shared.drain()
    with shared.store.connection() as connection:
        rows = connection.execute("SELECT expires_at, finish_by - started_at FROM flows_runs")
    assert rows == [(None, us("2h"))] * 3


def test_what_is_past_its_bounds_is_cancelled_on_both_stores(shared: World) -> None:
    declare(shared, timeouts=Timeouts(start="1ms", finish="1ms"))
    shared.flows.send([Event("job/asked") for _ in range(3)])
    take_turn(shared.runtime, shared.broker.waiting.popleft().run_id)
    while end_overdue(shared.runtime) + expire_unstarted(shared.runtime):
        pass
    reasons = sorted(str(run.reason) for run in shared.runs())
    assert [run.status for run in shared.runs()] == [Status.CANCELLED] * 3
    assert [reason.split(":")[0] for reason in reasons] == ["timeouts.finish", "timeouts.start", "timeouts.start"]


def test_a_bounded_run_starts_by_every_way_in(world: World) -> None:
    job = declare(world, timeouts=Timeouts(start="1h"))
    job.delay()
    world.flows.send("job/asked")
    with world.store.connection() as connection:
        assert connection.execute("SELECT expires_at - created_at FROM flows_runs") == [(us("1h"),)] * 2
        names = [json.loads(row[0]) for row in connection.execute("SELECT data FROM flows_events")]
    assert FLOW_INVOKED not in names
