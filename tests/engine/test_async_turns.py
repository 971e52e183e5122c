"""How an async turn ends: coroutines are left, never thrown out; cleanups run; a turn that is over runs no step."""

import asyncio

import pytest

from celeryflows import Status

PAUSES = ["sleep", "wait", "retrying step"]


async def pause(ctx, kind):
    """Suspends once; over after an hour."""
    if kind == "sleep":
        await ctx.step.sleep("pause", "1h")
    elif kind == "wait":
        await ctx.step.wait_for_event("pause", event="never/comes", timeout="1h")
    else:
        await ctx.step.run("pause", fail_at_first, ctx)


async def fail_at_first(ctx):
    if ctx.attempt == 0:
        raise ValueError("at first")


@pytest.mark.parametrize("kind", PAUSES)
@pytest.mark.parametrize("caught", [Exception, asyncio.CancelledError], ids=["exception", "cancelled"])
def test_a_handler_catches_nothing_around_a_suspension(flows, flows_tester, kind, caught):
    got = []

    @flows.flow
    async def flow(ctx):
        try:
            await pause(ctx, kind)
        except caught as error:
            got.append(error)
            raise
        return "through"

    run = flows_tester.start(flow)
    assert run.status == Status.SUSPENDED
    flows_tester.advance("1h")

    assert (run.output, got) == ("through", [])


@pytest.mark.parametrize("kind", PAUSES)
def test_finally_blocks_run_at_every_turn_and_a_step_in_one_only_in_its_time(flows, flows_tester, kind):
    blocks = []

    @flows.flow
    async def flow(ctx):
        try:
            await pause(ctx, kind)
            await ctx.step.run("work", lambda: 1)
        finally:
            blocks.append("cleaned")
            await ctx.step.run("release", lambda: 1)
        return "through"

    run = flows_tester.start(flow)
    assert (run.status, blocks, flows_tester.calls("release")) == (Status.SUSPENDED, ["cleaned"], 0)
    flows_tester.advance("1h")

    assert (run.output, blocks) == ("through", ["cleaned", "cleaned"])
    assert [flows_tester.calls(step) for step in ("work", "release")] == [1, 1]


def test_code_behind_a_parked_branch_does_not_run_before_its_time(flows, flows_tester):
    reached = []

    @flows.flow
    async def flow(ctx):
        async def branch(number):
            try:
                await ctx.step.sleep(f"rest {number}", "1h")
            finally:
                reached.append("cleaned")
            reached.append("behind")

        await asyncio.gather(branch(1), branch(2), return_exceptions=True)
        reached.append("joined")

    flows_tester.start(flow)
    assert reached == ["cleaned", "cleaned"]
    flows_tester.advance("1h")

    assert reached[2:] == ["cleaned", "behind", "cleaned", "behind", "joined"]


def test_a_run_that_ends_leaves_its_parked_branches(flows, flows_tester):
    @flows.flow
    async def flow(ctx):
        rest = asyncio.ensure_future(ctx.step.sleep("rest", "1 day"))
        work = asyncio.ensure_future(ctx.step.run("work", lambda: "worked"))
        done, _ = await asyncio.wait([rest, work], return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()

    run = flows_tester.start(flow)

    assert run.output == "worked"


@pytest.mark.parametrize("joins", ["gather", "gather returning", "group", "alone"])
def test_a_cancelled_run_stops_at_the_boundary_however_its_branches_are_joined(flows, flows_tester, joins):
    reached = []

    @flows.flow
    async def flow(ctx):
        def cancel():
            flows.run(ctx.run_id).cancel("by the test")
            return "late"

        def steps():
            return [ctx.step.run("cancel", cancel), ctx.step.sleep("rest", "1h")]

        try:
            if joins == "gather":
                await asyncio.gather(*steps())
            elif joins == "gather returning":
                await asyncio.gather(*steps(), return_exceptions=True)
            elif joins == "group":
                async with asyncio.TaskGroup() as group:
                    for step in steps():
                        group.create_task(step)
            else:
                await ctx.step.run("cancel", cancel)
        except BaseException as error:
            reached.append(type(error))
            raise
        await ctx.step.run("next", lambda: reached.append("next"))

    run = flows_tester.start(flow)
    flows_tester.advance("1 day")

    assert (run.status, run.reason, flows_tester.calls("next")) == (Status.CANCELLED, "by the test", 0)
    assert set(reached) <= {GeneratorExit}
    assert [(step.id, step.state) for step in run.steps] == [("cancel", "late")]


@pytest.mark.parametrize("joins", ["gather", "group"])
def test_a_lost_turn_is_over_however_its_branches_are_joined(flows, flows_tester, joins):
    @flows.flow
    async def flow(ctx):
        steps = [ctx.step.run(step, lambda: 1) for step in ("a", "b")]
        if joins == "gather":
            await asyncio.gather(*steps, return_exceptions=True)
        else:
            async with asyncio.TaskGroup() as group:
                for step in steps:
                    group.create_task(step)
        return await ctx.step.run("next", lambda: "through")

    flows_tester.crash_in("a")
    flows_tester.crash_after("b")
    run = flows_tester.start(flow)

    assert (run.output, flows_tester.calls("next")) == ("through", 1)
    assert flows_tester.calls("a") >= 2


def test_a_step_in_a_step_ends_the_run_in_a_group_too(flows, flows_tester):
    @flows.flow
    async def flow(ctx):
        async def outer():
            await ctx.step.run("inner", lambda: 1)

        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.step.run("outer", outer))
            group.create_task(ctx.step.sleep("rest", "1h"))

    run = flows_tester.start(flow)

    assert (run.status, run.error and run.error.name) == (Status.FAILED, "StepMisuse")


def test_an_error_in_a_group_is_the_runs_as_a_group(flows, flows_tester):
    def fail():
        raise ValueError("no")

    @flows.flow(retries=0)
    async def flow(ctx):
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.step.run("bad", fail))
            group.create_task(ctx.step.sleep("rest", "1h"))

    run = flows_tester.start(flow)

    assert (run.status, run.error.name) == (Status.FAILED, "ExceptionGroup")
    assert "step 'bad' failed: ValueError: no" in run.error.stack


def test_a_spent_step_in_a_group_is_not_tried_again_with_the_body(flows, flows_tester):
    bodies = []

    def fail():
        raise ValueError("no")

    @flows.flow(retries=1)
    async def flow(ctx):
        bodies.append(1)
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.step.run("bad", fail))

    run = flows_tester.start(flow)
    flows_tester.advance("1 day")

    assert (run.status, flows_tester.calls("bad"), len(bodies)) == (Status.FAILED, 2, 2)
