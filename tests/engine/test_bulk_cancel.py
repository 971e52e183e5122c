"""Many runs cancelled at once: by flow, time, state and condition, in pieces, each as a single one is."""

from datetime import timedelta
from typing import Any

import pytest

from celeryflows import Event, ExpressionError, InvalidDuration, RetryAfterError, Status, UnknownFlow
from celeryflows.durations import to_datetime
from celeryflows.engine import bulk
from celeryflows.errors import StoreUnavailable
from tests.engine.world import World, statuses, us


def declare(world: World, name: str = "job", **options: Any) -> Any:
    """A flow that sleeps for an hour."""

    @world.flow(name=name, **{"trigger": f"{name}/asked", **options})
    def job(ctx: Any) -> str:
        ctx.step.sleep("nap", "1h")
        return "done"

    return job


def ask(world: World, *numbers: int, name: str = "job") -> None:
    """Start a run for each number."""
    for n in numbers:
        world.flows.send(f"{name}/asked", {"n": n})


def numbers(world: World, status: str) -> list[int]:
    """The numbers of the runs that stand there."""
    return [run.events[0].data["n"] for run in world.runs("job", status)]


def test_all_open_runs_of_a_flow_are_cancelled_and_of_no_other(shared: World) -> None:
    declare(shared)
    declare(shared, "other")
    ask(shared, 1, 2, 3)
    ask(shared, 1, name="other")
    shared.drain()
    ask(shared, 4)
    assert shared.flows.cancel(flow="job", because="a bad deploy") == 4
    assert [(run.status, run.reason) for run in shared.runs("job")] == [(Status.CANCELLED, "a bad deploy")] * 4
    assert statuses(shared.runs("other")) == [Status.SUSPENDED]
    assert shared.flows.cancel(flow="job") == 0


def test_runs_in_every_open_state_are_cancelled_and_ended_ones_stay(world: World) -> None:
    @world.flow(name="job", trigger="job/asked", retries=5)
    def job(ctx: Any) -> Any:
        match ctx.event.data["n"]:
            case 1:
                ctx.step.sleep("nap", "1h")
            case 2:
                ctx.step.wait_for_event("w", event="a/b", timeout="1h")
            case 3:
                raise RetryAfterError("later", "1h")
            case 4:
                ctx.step.run("all", lambda: cancelled.append(world.flows.cancel(flow="job")))

    cancelled: list[int] = []
    ask(world, 0, 1, 2, 3)
    world.drain()
    job.apply_async(kwargs={"n": 5}, countdown=60)
    ask(world, 6, 4)
    # The running one comes first, while the other is queued yet.
    world.broker.waiting.rotate(1)
    world.drain()
    assert cancelled == [6]
    assert statuses(world.runs("job")) == [Status.COMPLETED] + [Status.CANCELLED] * 6


def test_the_time_is_that_of_their_creation_from_then_on_and_before_then(world: World) -> None:
    declare(world)
    start = to_datetime(world.clock.now())
    for n in range(4):
        ask(world, n)
        world.clock.turn(us("1m"))
    world.drain()
    minutes = [start + timedelta(minutes=n) for n in range(4)]
    assert world.flows.cancel(flow="job", after=minutes[1], before=minutes[3].isoformat()) == 2
    assert numbers(world, "cancelled") == [1, 2]


def test_a_condition_chooses_by_the_event_and_what_cannot_be_judged_stays(shared: World) -> None:
    declare(shared)
    ask(shared, 1, 2, 3)
    shared.flows.send("job/asked", {"n": "many"})
    assert shared.flows.cancel(flow="job", if_exp="event.data.n >= 2") == 2
    assert numbers(shared, "cancelled") == [2, 3]


def test_a_condition_sees_the_last_error_of_a_body_that_is_tried_again(world: World) -> None:
    @world.flow(name="job", trigger="job/asked")
    def job(ctx: Any) -> Any:
        raise RetryAfterError("no stock" if ctx.event.data["n"] == 1 else "no money", "1h")

    ask(world, 1, 2)
    world.drain()
    assert world.flows.cancel(flow="job", if_exp="error.message.contains('stock')") == 1
    assert numbers(world, "cancelled") == [1]


def test_a_status_chooses_those_that_stand_there(world: World) -> None:
    declare(world)
    ask(world, 1)
    world.drain()
    ask(world, 2)
    assert world.flows.cancel(flow="job", status="queued") == 1
    assert numbers(world, "cancelled") == [2]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ({"flow": "jib"}, UnknownFlow),
        ({"flow": "job", "if_exp": "event.data.n >"}, ExpressionError),
        ({"flow": "job", "if_exp": "async.data.n > 1"}, ExpressionError),
        ({"flow": "job", "after": "2024-01-01T00:00:00"}, InvalidDuration),
        ({"flow": "job", "status": "completed"}, ValueError),
        ({"flow": 7}, TypeError),
    ],
)
def test_what_cannot_be_meant_cancels_nothing(world: World, words: dict[str, Any], error: type[Exception]) -> None:
    declare(world)
    ask(world, 1)
    with pytest.raises(error):
        world.flows.cancel(**words)
    assert statuses(world.runs()) == [Status.QUEUED]


def test_many_are_cancelled_in_bounded_pieces_and_looked_for_in_bounded_looks(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "LOOK", 25)
    monkeypatch.setattr(bulk, "PIECE", 10)
    sizes: list[int] = []
    cancel = bulk.cancel_runs
    monkeypatch.setattr(bulk, "cancel_runs", lambda runtime, runs: sizes.append(len(runs)) or cancel(runtime, runs))
    declare(world)
    world.flows.send([Event("job/asked", {"n": n}) for n in range(60)])
    assert world.flows.cancel(flow="job", if_exp="event.data.n != 30") == 59
    assert numbers(world, "queued") == [30]
    assert max(sizes) == 10


def test_after_an_outage_the_next_call_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "PIECE", 10)
    declare(world)
    world.flows.send([Event("job/asked", {"n": n}) for n in range(25)])
    cancel, calls = bulk.cancel_runs, []

    def failing(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 2:
            raise StoreUnavailable("gone")
        return cancel(*args)

    monkeypatch.setattr(bulk, "cancel_runs", failing)
    with pytest.raises(StoreUnavailable):
        world.flows.cancel(flow="job")
    assert world.flows.cancel(flow="job") == 15
    assert set(statuses(world.runs())) == {Status.CANCELLED}


def test_each_is_told_once_to_who_listens(world: World) -> None:
    told: list[str] = []
    declare(world)
    world.flow(lambda ctx: told.append(ctx.event.data["run_id"]), name="watcher", trigger="flows/run.cancelled")
    ask(world, 1, 2, 3)
    world.drain()
    world.flows.cancel(flow="job")
    world.flows.cancel(flow="job")
    world.run_due()
    assert sorted(told) == sorted(run.id for run in world.runs("job"))
