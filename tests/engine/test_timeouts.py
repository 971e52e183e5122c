"""A step that outlives its timeout is abandoned: a failed attempt like any, and its late value is never recorded."""

import asyncio
import logging
import threading

import pytest

from celeryflows import Status, StepError, StepTimeout

SHORT = "30 ms"


@pytest.fixture
def gate():
    """What holds a body up; opened at the end, so that no thread is left."""
    gate = threading.Event()
    yield gate
    gate.set()
    for thread in threading.enumerate():
        if thread.name == "celeryflows-step":
            thread.join(5)


def test_a_step_that_outlives_its_timeout_fails_as_steptimeout_on_replay_too(flows, flows_tester, gate):
    caught = []

    def stuck_here():
        gate.wait()

    @flows.flow
    def flow(ctx):
        try:
            ctx.step.using(timeout=SHORT, retries=0).run("stuck", stuck_here)
        except StepTimeout as error:
            caught.append(error)
        ctx.step.sleep("nap", "1h")

    run = flows_tester.start(flow)
    flows_tester.advance("1h")

    assert run.status == Status.COMPLETED
    first, replayed = caught
    assert (first.step_id, first.name, first.message) == ("stuck", "StepTimeout", replayed.message)
    assert "30 ms" in first.message
    assert "in stuck_here" in first.stack
    assert "celeryflows/engine" not in first.stack
    assert first.stack == replayed.stack


def test_a_timeout_is_a_failed_attempt_and_is_tried_again(flows, flows_tester, gate):
    @flows.flow
    def flow(ctx):
        return ctx.step.using(timeout=SHORT).run("slow", lambda: gate.wait() if ctx.attempt < 2 else "in time")

    run = flows_tester.start(flow)
    (step,) = run.steps
    assert (step.state, step.attempts, run.status) == ("retrying", 1, Status.SUSPENDED)
    flows_tester.advance("1m")

    assert (run.output, flows_tester.calls("slow")) == ("in time", 3)


def test_uncaught_it_fails_the_run_at_once(flows, flows_tester, gate):
    @flows.flow
    def flow(ctx):
        ctx.step.using(timeout=SHORT, retries=1).run("slow", gate.wait)

    run = flows_tester.start(flow)
    flows_tester.advance("1m")

    assert (run.status, run.error.name, run.error.step_id) == (Status.FAILED, "StepTimeout", "slow")
    assert flows_tester.calls("slow") == 2


def test_a_late_value_is_never_recorded(flows, flows_tester, gate):
    late = threading.Event()

    def body():
        gate.wait()
        late.set()
        return "late"

    @flows.flow
    def flow(ctx):
        try:
            ctx.step.using(timeout=SHORT, retries=0).run("slow", body)
        except StepTimeout:
            gate.set()
            late.wait(5)
        return ctx.step.run("after", lambda: "after")

    run = flows_tester.start(flow)

    assert run.output == "after"
    assert {step.id: step.state for step in run.steps} == {"slow": "failed", "after": "done"}


def test_a_step_in_time_gives_its_value_and_its_own_errors(flows, flows_tester):
    def fail():
        raise KeyError("own")

    @flows.flow(retries=0)
    def flow(ctx):
        quick = ctx.step.using(timeout="1h")
        with pytest.raises(StepError) as caught:
            quick.run("fails", fail)
        assert type(caught.value) is StepError
        assert "in fail" in caught.value.stack
        assert "celeryflows/engine" not in caught.value.stack
        return quick.run("works", lambda a, b: (a, b), 1, b=2), caught.value.name

    assert flows_tester.start(flow).output == [[1, 2], "KeyError"]


def test_inside_a_timed_step_the_context_is_the_steps(flows, flows_tester, caplog):
    caplog.set_level(logging.INFO, logger="celeryflows.run")

    @flows.flow
    def flow(ctx):
        def look():
            ctx.logger.info("attempt %s of %s", ctx.attempt, ctx.max_attempts)
            if ctx.attempt == 0:
                raise KeyError
            return threading.current_thread().daemon

        return ctx.step.using(timeout="1h", retries=4).run("look", look)

    run = flows_tester.start(flow)
    flows_tester.advance("1m")

    lines = [record.getMessage().partition("] ")[2] for record in caplog.records]
    assert [line for line in lines if line] == ["attempt 0 of 5", "attempt 1 of 5"]
    # The end of the process waits for no daemon.
    assert run.output is True


def test_a_step_inside_a_timed_step_is_refused_by_both_names(flows, flows_tester):
    @flows.flow
    def flow(ctx):
        ctx.step.using(timeout="1h").run("outer", lambda: ctx.step.run("inner", int))

    run = flows_tester.start(flow)

    assert (run.status, run.error.name) == (Status.FAILED, "StepMisuse")
    assert "'inner'" in run.error.message
    assert "'outer'" in run.error.message


def test_who_runs_the_worker_is_told_what_was_left_running(flows, flows_tester, gate, caplog):
    @flows.flow
    def flow(ctx):
        ctx.step.using(timeout=SHORT, retries=0).run("slow", gate.wait)

    run = flows_tester.start(flow)

    (line,) = [record.getMessage() for record in caplog.records if record.name == "celeryflows"]
    assert "'slow'" in line
    assert run.id in line
    assert "left running" in line


def test_a_crash_in_a_timed_step_is_a_crash(flows, flows_tester):
    @flows.flow
    def flow(ctx):
        return ctx.step.using(timeout="1h").run("work", lambda: "worked")

    flows_tester.crash_in("work")
    run = flows_tester.start(flow)

    assert (run.output, flows_tester.calls("work")) == ("worked", 2)


# -- async flows


def test_a_coroutine_that_outlives_its_timeout_is_cancelled(flows, flows_tester):
    ended = []

    async def stuck():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    @flows.flow
    async def flow(ctx):
        try:
            await ctx.step.using(timeout=SHORT, retries=0).run("stuck", stuck)
        except StepTimeout as error:
            return error.message, "in stuck" in error.stack

    run = flows_tester.start(flow)

    assert run.output == [f"no value within {SHORT}; it was cancelled", True]
    assert ended == ["cancelled"]


def test_a_coroutine_that_swallows_its_cancellation_gives_no_value(flows, flows_tester):
    async def stubborn():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "late"

    @flows.flow
    async def flow(ctx):
        try:
            return await ctx.step.using(timeout=SHORT, retries=0).run("stubborn", stubborn)
        except StepTimeout:
            return "timed out"

    run = flows_tester.start(flow)

    assert run.output == "timed out"
    assert [(step.id, step.state) for step in run.steps] == [("stubborn", "failed")]


def test_a_sync_body_of_an_async_flow_is_left_in_its_thread_while_others_go_on(flows, flows_tester, gate):
    @flows.flow
    async def flow(ctx):
        timed = ctx.step.using(timeout=SHORT, retries=0)
        found = await asyncio.gather(
            timed.run("stuck", gate.wait), timed.run("quick", lambda: 1), ctx.step.run("c", int), return_exceptions=True
        )
        return [type(one).__name__ for one in found]

    assert flows_tester.start(flow).output == ["StepTimeout", "int", "int"]


def test_a_timed_coroutine_in_time_gives_its_value_and_retries_its_errors(flows, flows_tester):
    async def work(attempt):
        await asyncio.sleep(0)
        if attempt == 0:
            raise KeyError
        return "worked"

    @flows.flow
    async def flow(ctx):
        return await ctx.step.using(timeout="1h").run("work", lambda: work(ctx.attempt))

    run = flows_tester.start(flow)
    flows_tester.advance("1m")

    assert run.output == "worked"


def test_the_handlers_own_timeout_around_a_timed_coroutine_cancels_it(flows, flows_tester):
    ended = []

    async def stuck():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("ended")

    @flows.flow
    async def flow(ctx):
        try:
            async with asyncio.timeout(0.02):
                await ctx.step.using(timeout="1h").run("stuck", stuck)
        except TimeoutError:
            return "own timeout", list(ended)

    run = flows_tester.start(flow)

    assert run.output == ["own timeout", ["ended"]]
    assert run.steps == []
