"""Ids and errors in async flows: one id in flight is one step, and a failed branch leaves the others be."""

import asyncio

import pytest

from celeryflows import NonRetriableError, Status, StepError


def test_one_id_in_flight_twice_ends_the_run(flows, flows_tester):
    @flows.flow
    async def flow(ctx):
        await asyncio.gather(
            ctx.step.run("same", asyncio.sleep, 0), ctx.step.run("same", asyncio.sleep, 0), return_exceptions=True
        )
        return "through"

    run = flows_tester.start(flow)

    assert (run.status, run.error.name) == (Status.FAILED, "StepMisuse")
    assert "'same' is in flight twice" in run.error.message


@pytest.mark.parametrize("tool", ["sleep", "wait", "retry"])
def test_one_id_parked_twice_ends_the_run_too(flows, flows_tester, tool):
    def fail():
        raise ValueError("at first")

    @flows.flow
    async def flow(ctx):
        tools = {
            "sleep": lambda: ctx.step.sleep("same", "1h"),
            "wait": lambda: ctx.step.wait_for_event("same", event="x/y", timeout="1h"),
            "retry": lambda: ctx.step.run("same", fail),
        }
        await asyncio.gather(tools[tool](), tools[tool]())

    run = flows_tester.start(flow)

    assert (run.status, run.error and run.error.name) == (Status.FAILED, "StepMisuse")


def test_one_id_used_again_after_its_end_is_numbered(flows, flows_tester):
    @flows.flow
    async def flow(ctx):
        return [await ctx.step.run("same", lambda n=n: n) for n in range(3)]

    run = flows_tester.start(flow)

    assert (run.output, [step.id for step in run.steps]) == ([0, 1, 2], ["same", "same:1", "same:2"])


def test_a_failed_branch_raises_a_step_error_and_the_others_are_kept(flows, flows_tester):
    def fail():
        raise NonRetriableError("no")

    @flows.flow
    async def flow(ctx):
        got = await asyncio.gather(
            ctx.step.run("good", lambda: "kept"), ctx.step.run("bad", fail), return_exceptions=True
        )
        await ctx.step.sleep("rest", "1h")
        return [got[0], type(got[1]).__name__, got[1].step_id]

    run = flows_tester.start(flow)
    flows_tester.advance("1h")

    assert (run.output, flows_tester.calls("good")) == (["kept", StepError.__name__, "bad"], 1)


def test_a_step_in_a_step_ends_an_async_run_too(flows, flows_tester):
    @flows.flow
    async def flow(ctx):
        async def outer():
            await ctx.step.run("inner", lambda: 1)

        try:
            await ctx.step.run("outer", outer)
        except Exception:
            return "caught"

    run = flows_tester.start(flow)

    assert (run.status, run.error.name, flows_tester.calls("inner")) == (Status.FAILED, "StepMisuse", 0)
    assert "'inner'" in run.error.message
    assert "'outer'" in run.error.message


def test_the_bodys_own_error_is_tried_again_with_memos_kept(flows, flows_tester):
    @flows.flow
    async def flow(ctx):
        value = await ctx.step.run("work", lambda: "worked")
        if ctx.attempt == 0:
            raise ValueError("at first")
        return value

    run = flows_tester.start(flow)
    flows_tester.advance("1s")

    assert (run.output, flows_tester.calls("work")) == ("worked", 1)
