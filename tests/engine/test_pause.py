"""A paused flow: nothing starts it, for every process at once and through deploys; what is there goes on or ends."""

from collections.abc import Iterator
from typing import Any

import pytest

from celeryflows import Event, Flows, OnCron, RunCancelled, Status, UnknownFlow
from celeryflows.console.flows import flows as flows_shown
from celeryflows.testing import FlowsTester
from tests.engine.world import World, statuses


@pytest.fixture
def tester(flows: Flows) -> Iterator[FlowsTester]:
    with FlowsTester(flows) as tester:
        yield tester


def declare(world: Any, **options: Any) -> Any:
    """A flow that sleeps for an hour."""

    @world.flow(**{"name": "job", "trigger": "job/asked", **options})
    def job(ctx: Any) -> str:
        ctx.step.sleep("nap", "1h")
        return "done"

    return job


def test_while_a_flow_is_paused_its_events_make_skipped_runs(flows: Flows, tester: FlowsTester) -> None:
    job = declare(flows)
    assert flows.pause(job) is True
    run = tester.start(job, Event("job/asked", {"n": 1}))
    assert (run.status, run.reason) == (Status.SKIPPED, "paused")
    assert run.events[0].data == {"n": 1}
    with pytest.raises(RunCancelled, match="paused"):
        run.get(timeout=1)


def test_resumed_it_starts_again_and_what_was_skipped_stays_so(flows: Flows, tester: FlowsTester) -> None:
    declare(flows)
    flows.pause("job")
    tester.send("job/asked")
    assert flows.resume("job") is True
    tester.send("job/asked")
    tester.advance("2h")
    assert statuses(tester.runs()) == [Status.SKIPPED, Status.COMPLETED]


def test_runs_that_are_there_go_on(flows: Flows, tester: FlowsTester) -> None:
    job = declare(flows)
    slept = tester.start(job)
    later = job.apply_async(countdown=60)
    flows.pause(job)
    tester.advance("2h")
    assert (slept.output, flows.run(later.id).output) == ("done", "done")


def test_runs_that_are_there_are_cancelled_when_asked(flows: Flows, tester: FlowsTester) -> None:
    job = declare(flows)
    slept, other = tester.start(job), tester.start(declare(flows, name="other", trigger="a/b"))
    later = flows.run(job.apply_async(countdown=60).id)
    flows.pause(job, cancel_running=True)
    assert [(run.status, run.reason) for run in (slept, later)] == [(Status.CANCELLED, "its flow was paused")] * 2
    assert other.status == Status.SUSPENDED


@pytest.mark.parametrize("options", [{}, {"countdown": 60}])
def test_a_call_of_a_paused_flow_is_a_skipped_run_too(
    flows: Flows, tester: FlowsTester, options: dict[str, Any]
) -> None:
    job = declare(flows)
    flows.pause(job)
    run = flows.run(job.apply_async(kwargs={"n": 1}, **options).id)
    tester.advance("2m")
    assert (run.status, run.reason) == (Status.SKIPPED, "paused")


def test_crons_of_a_paused_flow_make_skipped_runs(flows: Flows, tester: FlowsTester) -> None:
    declare(flows, trigger=[OnCron("* * * * *"), OnCron("* * * * *", jitter="30s")])
    flows.pause("job")
    tester.advance("90s")
    before = len(tester.runs("job"))
    assert before >= 2
    assert set(statuses(tester.runs("job"))) == {Status.SKIPPED}
    flows.resume("job")
    tester.advance("1m")
    assert tester.runs("job", status="suspended") != []


def test_a_repeated_event_id_stays_a_duplicate(flows: Flows, tester: FlowsTester) -> None:
    declare(flows)
    flows.pause("job")
    tester.send([Event("job/asked", id="o1"), Event("job/asked", id="o1")])
    first, second = sorted(tester.runs(), key=lambda run: str(run.reason), reverse=True)
    assert (first.reason, str(second.reason)) == ("paused", f"duplicate: event id 'o1' has started run {first.id}")


def test_pausing_twice_and_resuming_twice_say_so(flows: Flows, tester: FlowsTester) -> None:
    job = declare(flows)
    assert [flows.pause(job), flows.pause(job), flows.resume(job), flows.resume(job)] == [True, False, True, False]


def test_an_unknown_flow_is_refused_with_those_that_are_known(flows: Flows, tester: FlowsTester) -> None:
    declare(flows)
    for call in (flows.pause, flows.resume):
        with pytest.raises(UnknownFlow, match=r"No flow 'jib'\. Known: job\."):
            call("jib")


def test_every_process_knows_at_once(shared: World) -> None:
    declare(shared)
    shared.start_worker()
    sender = shared.process()
    sender.flows.send("job/asked")
    shared.flows.pause("job")
    sender.flows.send("job/asked")
    shared.flows.resume("job")
    sender.flows.send("job/asked")
    assert statuses(shared.runs()) == [Status.QUEUED, Status.SKIPPED, Status.QUEUED]


def test_it_stays_paused_through_a_deploy_that_changes_it(world: World) -> None:
    declare(world)
    world.start_worker()
    world.flows.pause("job")
    deployed = world.process()
    declare(deployed, retries=7, label="another")
    deployed.start_worker()
    deployed.send("job/asked")
    assert statuses(world.runs()) == [Status.SKIPPED]
    [shown] = flows_shown(deployed.runtime)
    assert (shown.retries, shown.paused_at is not None) == (7, True)


def test_it_stays_paused_while_it_is_removed_and_comes_back(world: World) -> None:
    declare(world)
    world.start_worker()
    world.flows.pause("job")
    without = world.process()
    without.flow(lambda ctx: None, name="other")
    without.start_worker()
    back = world.process()
    declare(back, retries=1)
    back.start_worker()
    back.send("job/asked")
    assert statuses(world.runs()) == [Status.SKIPPED]


def test_a_paused_flow_is_shown_as_such(world: World) -> None:
    declare(world)
    world.start_worker()
    [before] = flows_shown(world.runtime)
    world.flows.pause("job")
    [after] = flows_shown(world.runtime)
    assert before.paused_at is None
    assert after.paused_at is not None
