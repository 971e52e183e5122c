"""Groups in async flows: branches are turns of their own beside whatever else the handler awaits."""

import asyncio
from functools import partial

import pytest

from celeryflows import Status, StepError

pytestmark = pytest.mark.usefixtures("each_way")


async def nap(ctx, seconds, value=None):
    await ctx.step.sleep("nap", f"{seconds}s")
    return value


async def fail():
    raise ValueError("no")


def test_coroutine_functions_plain_functions_and_lambdas_are_branches(flows, flows_tester):
    @flows.flow
    async def flow(ctx):
        async def two():
            first = await ctx.step.run("a", lambda: 1)
            return [first, await ctx.step.run("a", lambda: 2)]

        return await ctx.group.parallel(two, partial(nap, ctx, 5, 3), lambda: 4, partial(ctx.step.run, "s", lambda: 5))

    run = flows_tester.start(flow)
    flows_tester.advance("5s")
    assert run.output == [[1, 2], 3, 4, 5]


def test_a_branch_may_gather_and_race(flows, flows_tester):
    @flows.flow
    async def flow(ctx):
        async def gathers():
            return await asyncio.gather(ctx.step.run("a", lambda: 1), ctx.step.run("b", lambda: 2), nap(ctx, 3, 3))

        async def races():
            return await ctx.group.race(partial(nap, ctx, 9), partial(nap, ctx, 2, "won"))

        return await ctx.group.parallel(gathers, races)

    run = flows_tester.start(flow)
    flows_tester.advance("3s")
    assert run.output == [[1, 2, 3], [1, "won"]]


def test_a_group_runs_beside_steps_and_sleeps_of_the_handler(flows, flows_tester):
    @flows.flow
    async def flow(ctx):
        async def beside():
            await ctx.step.sleep("beside", "4s")
            return await ctx.step.run("beside it", lambda: "beside")

        group = ctx.group.parallel(partial(nap, ctx, 2, "x"), partial(nap, ctx, 6, "y"))
        return await asyncio.gather(ctx.step.run("first", lambda: 1), group, beside())

    run = flows_tester.start(flow)
    flows_tester.advance("10s")
    assert run.output == [1, ["x", "y"], "beside"]
    assert [flows_tester.calls(id, run) for id in ("first", "beside it")] == [1, 1]


def test_two_groups_at_once_need_names(flows, flows_tester):
    @flows.flow
    async def named(ctx):
        groups = [ctx.group.parallel([partial(nap, ctx, 1, name)], name=name) for name in "ab"]
        return await asyncio.gather(*groups)

    @flows.flow
    async def nameless(ctx):
        return await asyncio.gather(ctx.group.parallel([partial(nap, ctx, 1)]), ctx.group.parallel([lambda: 1]))

    run, other = flows_tester.start(named), flows_tester.start(nameless)
    flows_tester.advance("1s")
    assert run.output == [["a"], ["b"]]
    assert other.error.name == "StepMisuse"


def test_errors_come_to_the_handler_with_their_notes(flows, flows_tester):
    @flows.flow(retries=0)
    async def flow(ctx):
        try:
            await ctx.group.parallel(partial(ctx.step.run, "a", fail), partial(ctx.step.run, "b", fail))
        except StepError as error:
            return [error.step_id, error.__notes__]

    assert flows_tester.start(flow).output == ["group[0]/a", ["step 'group[1]/b' failed: ValueError: no"]]


@pytest.mark.parametrize("crash", ["crash_in", "crash_after"])
def test_no_recorded_step_runs_twice_though_workers_die(flows, flows_tester, crash):
    @flows.flow
    async def flow(ctx):
        async def two(n):
            await ctx.step.run("a", lambda: n)
            return await ctx.step.run("b", lambda: n)

        return await ctx.group.parallel(partial(two, n) for n in range(3))

    getattr(flows_tester, crash)("b", times=2)
    run = flows_tester.start(flow)
    assert (run.output, flows_tester.calls("a", run)) == ([0, 1, 2], 3)


def test_a_handler_that_ends_before_its_group_cancels_the_branches(flows, flows_tester):
    @flows.flow
    async def flow(ctx):
        group = asyncio.create_task(ctx.group.parallel(partial(nap, ctx, 60), partial(nap, ctx, 90)))
        await asyncio.sleep(0)
        await ctx.step.sleep("short", "1s")
        group.cancel()
        return "done"

    run = flows_tester.start(flow)
    flows_tester.advance("1s")
    assert (run.status, run.output) == (Status.COMPLETED, "done")
    with flows.runtime.store.connection() as connection:
        assert connection.execute("SELECT DISTINCT status FROM flows_branches") == [("cancelled",)]
        assert connection.runs.next_due() is None


def test_a_coroutine_in_place_of_a_function_is_refused_with_the_remedy(flows, flows_tester):
    @flows.flow(retries=0)
    async def flow(ctx):
        await ctx.group.parallel(ctx.step.run("a", lambda: 1))

    run = flows_tester.start(flow)
    assert run.error.name == "TypeError"
    assert "called already" in run.error.message
