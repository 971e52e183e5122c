"""Suspension: nothing that a sync handler catches keeps it from pausing, and nothing runs once it has paused."""

from datetime import timedelta

import pytest

from celeryflows import Event, Status

PAUSES = ["sleep", "sleep until", "wait", "retrying step"]


def pause(ctx, kind, flows_tester):
    """Suspends once; over after an hour."""
    if kind == "sleep":
        ctx.step.sleep("pause", "1h")
    elif kind == "sleep until":
        ctx.step.sleep_until("pause", flows_tester.now + timedelta(hours=1))
    elif kind == "wait":
        ctx.step.wait_for_event("pause", event="never/comes", timeout="1h")
    else:
        ctx.step.run("pause", fail_at_first, ctx)


def fail_at_first(ctx):
    if ctx.attempt == 0:
        raise ValueError("at first")


@pytest.mark.parametrize("kind", PAUSES)
def test_except_exception_never_catches_a_suspension(flows, flows_tester, kind):
    caught = []

    @flows.flow
    def flow(ctx):
        try:
            pause(ctx, kind, flows_tester)
        except Exception as error:
            caught.append(error)
        return "through"

    run = flows_tester.start(flow)
    assert run.status == Status.SUSPENDED
    flows_tester.advance("1h")

    assert (run.output, caught) == ("through", [])


@pytest.mark.parametrize("kind", PAUSES)
def test_a_handler_that_catches_everything_is_still_suspended(flows, flows_tester, kind):
    @flows.flow
    def flow(ctx):
        try:
            pause(ctx, kind, flows_tester)
        except:  # noqa: E722
            return "not yet"
        return "through"

    run = flows_tester.start(flow)
    assert (run.status, run.output) == (Status.SUSPENDED, None)
    flows_tester.advance("1h")

    assert run.output == "through"


@pytest.mark.parametrize("kind", PAUSES)
def test_an_error_raised_in_place_of_a_suspension_does_not_fail_the_run(flows, flows_tester, kind):
    @flows.flow(retries=0 if kind != "retrying step" else 1)
    def flow(ctx):
        try:
            pause(ctx, kind, flows_tester)
        except BaseException:
            raise LookupError("in its place") from None
        return "through"

    run = flows_tester.start(flow)
    assert run.status == Status.SUSPENDED
    flows_tester.advance("1h")

    assert run.output == "through"


@pytest.mark.parametrize("kind", PAUSES)
def test_finally_blocks_run_at_every_turn_and_a_step_in_one_only_in_its_time(flows, flows_tester, kind):
    blocks = []

    @flows.flow
    def flow(ctx):
        try:
            pause(ctx, kind, flows_tester)
            ctx.step.run("work", lambda: 1)
        finally:
            blocks.append("cleaned")
            ctx.step.run("release", lambda: 1)
        return "through"

    run = flows_tester.start(flow)
    assert (blocks, flows_tester.calls("release")) == (["cleaned"], 0)
    flows_tester.advance("1h")

    assert (run.output, blocks) == ("through", ["cleaned", "cleaned"])
    assert [flows_tester.calls(step) for step in ("work", "release")] == [1, 1]


def test_a_context_manager_around_a_suspension_leaves_at_every_turn_and_its_step_runs_once(flows, flows_tester):
    class Lock:
        left = 0

        def __init__(self, ctx):
            self.ctx = ctx

        def __enter__(self):
            self.ctx.step.run("lock", lambda: 1)

        def __exit__(self, *exc):
            Lock.left += 1
            self.ctx.step.run("unlock", lambda: 1)
            return True

    @flows.flow
    def flow(ctx):
        with Lock(ctx):
            ctx.step.sleep("hold", "1h")
        return "through"

    run = flows_tester.start(flow)
    assert (run.status, flows_tester.calls("unlock")) == (Status.SUSPENDED, 0)
    flows_tester.advance("1h")

    assert (run.output, Lock.left) == ("through", 2)
    assert [flows_tester.calls(step) for step in ("lock", "unlock")] == [1, 1]


def test_a_loop_that_catches_everything_ends_the_turn_at_the_first_suspension(flows, flows_tester):
    rounds = []

    @flows.flow
    def flow(ctx):
        for number in range(3):
            rounds.append(number)
            try:
                ctx.step.sleep(f"pause {number}", "1h")
                ctx.step.run(f"work {number}", lambda: 1)
            except:  # noqa: E722
                continue
        return "through"

    run = flows_tester.start(flow)
    assert [step.id for step in run.steps] == ["pause 0"]
    assert rounds == [0, 1, 2]
    flows_tester.advance("1h")
    flows_tester.advance("1h")
    assert run.status == Status.SUSPENDED
    flows_tester.advance("1h")

    assert run.output == "through"
    assert [flows_tester.calls(f"work {number}") for number in range(3)] == [1, 1, 1]


def test_no_tool_works_after_a_suspension_that_was_swallowed(flows, flows_tester):
    @flows.flow
    def flow(ctx):
        tools = [
            lambda: ctx.step.sleep("first", "1h"),
            lambda: ctx.step.run("second", lambda: 1),
            lambda: ctx.step.send_event("third", Event("late/sent")),
            lambda: ctx.step.wait_for_event("fourth", event="x/y", timeout="1 day"),
            lambda: ctx.step.sleep_until("fifth", flows_tester.now + timedelta(days=1)),
        ]
        for tool in tools:
            try:
                tool()
            except BaseException:
                continue

    run = flows_tester.start(flow)

    assert run.status == Status.SUSPENDED
    assert [step.id for step in run.steps] == ["first"]


def test_a_sleeping_run_is_woken_at_its_time_and_not_before(flows, flows_tester):
    begun = flows_tester.now

    @flows.flow
    def flow(ctx):
        ctx.step.sleep("rest", "3 days")
        return flows_tester.now.isoformat()

    run = flows_tester.start(flow)
    flows_tester.advance(timedelta(days=3) - timedelta(microseconds=1))
    assert run.status == Status.SUSPENDED
    flows_tester.advance(timedelta(microseconds=1))

    assert run.output == (begun + timedelta(days=3)).isoformat()
