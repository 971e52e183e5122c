"""Turns: a stopping worker hands back at a boundary, a doubled message finds nothing, a zombie writes nothing."""

import asyncio
import threading

import pytest

from celeryflows import Event, Status, UnknownFlow
from celeryflows.engine.resume import requeue
from celeryflows.engine.turn import NOT_CLAIMED, take_turn
from celeryflows.store.runs import Held


@pytest.fixture
def runtime(flows_tester):
    return flows_tester._runtime


@pytest.fixture
def stopping(flows_tester):
    """A worker that stops after so many steps: set `stopping.after`."""

    class Stopping:
        after = None

        def __call__(self):
            return self.after is not None and sum(flows_tester.calls(step) for step in "abc") >= self.after

    stop = Stopping()
    flows_tester._world.turn = lambda runtime, run_id: take_turn(runtime, run_id, stop)
    return stop


def one_turn(flows_tester, stopping, after):
    """Lets the worker stop after so many steps; how its turns end. What it hands back stays in the queue."""
    stopping.after = after
    ends = []

    def turn(runtime, run_id):
        ends.append(take_turn(runtime, run_id, stopping))
        flows_tester._dispatcher.waiting.clear()
        return ends[-1]

    flows_tester._world.turn = turn
    return ends


@pytest.fixture
def three(flows):
    @flows.flow
    def three(ctx):
        return [ctx.step.run(step, lambda step=step: step) for step in "abc"]

    return three


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_stopping_worker_hands_the_run_back_at_the_next_boundary(flows_tester, three, stopping, runtime, steps):
    ends = one_turn(flows_tester, stopping, steps)
    run = flows_tester.start(three)
    assert [end.status for end in ends] == [Status.QUEUED]
    assert (run.status, [step.id for step in run.steps]) == (Status.QUEUED, list("abc")[:steps])

    stopping.after = None
    assert take_turn(runtime, run.id).value == ["a", "b", "c"]

    assert [flows_tester.calls(step) for step in "abc"] == [1, 1, 1]


def test_a_stopping_worker_finishes_a_run_whose_steps_are_all_done(flows_tester, three, stopping):
    stopping.after = 3

    assert flows_tester.start(three).output == ["a", "b", "c"]


def test_handing_back_is_neither_an_attempt_nor_a_loss(flows, flows_tester, stopping, runtime):
    attempts = []

    @flows.flow(retries=0)
    def flow(ctx):
        attempts.append(ctx.attempt)
        return ctx.step.run("a", lambda: ctx.attempt)

    ends = one_turn(flows_tester, stopping, 0)
    run = flows_tester.start(flow)
    for _ in range(12):
        assert take_turn(runtime, run.id, lambda: True).status == Status.QUEUED

    assert (len(ends), take_turn(runtime, run.id).value, set(attempts)) == (1, 0, {0})


@pytest.mark.parametrize("tool", ["run", "sleep", "wait", "send"])
def test_every_kind_of_step_is_a_boundary_and_nothing_swallows_it(flows, flows_tester, stopping, runtime, tool):
    @flows.flow
    def flow(ctx):
        try:
            if tool == "run":
                ctx.step.run("next", lambda: 1)
            elif tool == "sleep":
                ctx.step.sleep("next", "1h")
            elif tool == "wait":
                ctx.step.wait_for_event("next", event="x/y", timeout="1h")
            else:
                ctx.step.send_event("next", Event("x/y"))
        except Exception:
            return "swallowed"

    ends = one_turn(flows_tester, stopping, 0)
    run = flows_tester.start(flow)

    assert (ends[0].status, run.status, run.steps) == (Status.QUEUED, Status.QUEUED, [])


def test_an_async_flow_hands_back_when_what_runs_is_done(flows, flows_tester, stopping, runtime):
    both_run = threading.Barrier(2, timeout=10)

    @flows.flow
    async def flow(ctx):
        async def branch(first, second):
            await ctx.step.run(first, both_run.wait)
            return await ctx.step.run(second, lambda: second)

        return await asyncio.gather(branch("a", "x"), branch("b", "y"))

    ends = one_turn(flows_tester, stopping, 2)
    run = flows_tester.start(flow)
    assert (ends[0].status, sorted(step.id for step in run.steps)) == (Status.QUEUED, ["a", "b"])

    assert take_turn(runtime, run.id).value == ["x", "y"]


def test_a_doubled_message_finds_nothing_to_claim(flows_tester, three, runtime):
    run = flows_tester.start(three)

    assert take_turn(runtime, run.id) == NOT_CLAIMED
    assert flows_tester.calls("a") == 1


def test_a_message_for_a_sleeping_run_finds_nothing_to_claim(flows, flows_tester, runtime):
    @flows.flow
    def flow(ctx):
        ctx.step.sleep("rest", "1h")

    run = flows_tester.start(flow)

    assert take_turn(runtime, run.id) == NOT_CLAIMED
    assert run.status == Status.SUSPENDED


def test_a_message_for_no_run_finds_nothing_to_claim(flows_tester, runtime):
    assert take_turn(runtime, "no such run") == NOT_CLAIMED


def test_a_run_whose_flow_this_process_lacks_goes_back_to_the_queue(flows, flows_tester, runtime):
    @flows.flow(name="gone")
    def gone(ctx):
        ctx.step.sleep("rest", "1h")
        return "through"

    run = flows_tester.start(gone)
    kept = runtime.flows.pop("gone")
    with pytest.raises(UnknownFlow, match=r"No flow 'gone'\. Known: none\. Is its module imported by the worker\?"):
        flows_tester.advance("1h")
    assert run.status == Status.QUEUED

    runtime.flows["gone"] = kept
    flows_tester.advance("0s")
    assert run.output == "through"


@pytest.mark.parametrize("caught", [BaseException, Exception])
def test_a_cancelled_run_stops_at_the_boundary_whatever_its_handler_catches(flows, flows_tester, caught):
    @flows.flow
    def flow(ctx):
        def cancel():
            flows.run(ctx.run_id).cancel("by the test")
            return "late"

        for step in (cancel, int, int):
            try:
                ctx.step.run("work", step)
            except caught:
                continue
        return "through"

    run = flows_tester.start(flow)

    assert (run.status, run.reason, run.output) == (Status.CANCELLED, "by the test", None)
    assert [(step.id, step.state, step.value) for step in run.steps] == [("work", "late", '"late"')]
    assert flows_tester.calls("work:1") == 0


def test_no_transaction_is_open_while_a_step_runs(flows, flows_tester, runtime):
    """A store in memory has one connection: a second transaction on it would be refused."""

    def look():
        with runtime.store.begin() as tx:
            return tx.runs.outcome("nobody") is None

    flow = flows.flow(name="f")(lambda ctx: [ctx.step.run("look", look), look()])

    assert flows_tester.start(flow).output == [True, True]


def test_a_zombies_late_value_is_dropped_and_the_new_turns_is_kept(flows, flows_tester, runtime):
    """The worker is declared dead while its step runs; the step ends after the next turn has recorded its own."""
    entered, may_end = threading.Event(), threading.Event()
    values = iter(["the zombie's", "the new turn's"])

    def slow():
        value = next(values)
        if value == "the zombie's":
            entered.set()
            may_end.wait(10)
        return value

    @flows.flow
    def flow(ctx):
        value = ctx.step.run("slow", slow)
        ctx.step.send_event("tell", Event("done/told", {"by": value}))
        return value

    told = []
    flows.flow(name="hears", trigger="done/told")(lambda ctx: told.append(ctx.event.data["by"]))
    ends = []
    zombie = threading.Thread(target=lambda: ends.append(flows_tester.start(flow)))
    zombie.start()
    assert entered.wait(10)
    (run,) = flows_tester.runs(flow)
    with runtime.store.connection() as connection:
        (held,) = connection.runs.of_worker(runtime.worker)
    assert isinstance(held, Held)
    assert requeue(runtime, held)
    assert take_turn(runtime, run.id).value == "the new turn's"
    may_end.set()
    zombie.join(10)

    assert (run.output, told, len(ends)) == ("the new turn's", ["the new turn's"], 1)
    assert flows_tester.calls("slow") == 2
