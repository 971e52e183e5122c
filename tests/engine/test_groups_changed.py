"""Code that changes while branches are out: what is new before the group is run once, what is gone harms nothing."""

from functools import partial

import pytest

from celeryflows import Status
from celeryflows.console.history import check_store

pytestmark = pytest.mark.usefixtures("each_way")


def nap(ctx, value):
    ctx.step.sleep("nap", "60s")
    return value


@pytest.mark.parametrize("is_async", [False, True])
def test_a_new_step_before_an_open_group_is_run_once_and_the_branches_go_on(flows, flows_tester, is_async):
    code = {"new": False}

    def sync(ctx):
        new = ctx.step.run("new", lambda: "new") if code["new"] else None
        return [new, *ctx.group.parallel(partial(nap, ctx, 1), partial(nap, ctx, 2))]

    async def anap(ctx, value):
        await ctx.step.sleep("nap", "60s")
        return value

    async def handler(ctx):
        new = await ctx.step.run("new", lambda: "new") if code["new"] else None
        return [new, *await ctx.group.parallel(partial(anap, ctx, 1), partial(anap, ctx, 2))]

    flow = flows.flow(name="f")(handler if is_async else sync)
    run = flows_tester.start(flow)
    code["new"] = True
    flows_tester.advance("10 min")
    assert (run.output, flows_tester.calls("new", run)) == (["new", 1, 2], 1)


def test_a_group_that_is_gone_is_forgotten_and_its_branches_do_not_stay(flows, flows_tester):
    code = {"group": True}

    @flows.flow
    def flow(ctx):
        if code["group"]:
            ctx.group.parallel(partial(nap, ctx, 1), partial(ctx.step.wait_for_event, "w", event="x/y", timeout="1h"))
        return ctx.step.run("after", lambda: "after")

    run = flows_tester.start(flow)
    code["group"] = False
    flows_tester.advance("2h")
    assert run.output == "after"
    with flows.runtime.store.connection() as connection:
        assert {row[0] for row in connection.execute("SELECT status FROM flows_branches")} <= {"failed", "cancelled"}


def test_fewer_branches_than_before_end_the_run_with_both_named(flows, flows_tester):
    code = {"count": 3}

    @flows.flow
    def flow(ctx):
        return ctx.group.parallel(partial(nap, ctx, n) for n in range(code["count"]))

    run = flows_tester.start(flow)
    code["count"] = 2
    flows_tester.advance("2 min")
    assert run.error.name == "NondeterminismError"
    assert "'group[2]'" in run.error.message


def test_a_group_that_becomes_a_race_is_named_as_another_kind(flows, flows_tester):
    code = {"race": False}

    @flows.flow
    def flow(ctx):
        call = ctx.group.race if code["race"] else ctx.group.parallel
        return call(partial(nap, ctx, 1))

    run = flows_tester.start(flow)
    code["race"] = True
    flows_tester.advance("2 min")
    assert (run.status, run.error.name) == (Status.FAILED, "NondeterminismError")
    assert "'parallel' step and is now a 'race' step" in run.error.message


def test_a_check_of_todays_code_finds_nothing_wrong_with_groups_that_stay(flows, flows_tester):
    code = {"race": False}

    @flows.flow(name="f")
    def flow(ctx):
        ctx.step.run("a", lambda: 1)
        call = ctx.group.race if code["race"] else ctx.group.parallel
        values = call(partial(ctx.step.run, "b", lambda n=n: n) for n in range(2))
        return ctx.step.run("c", lambda: values)

    flows_tester.start(flow)
    (run,) = check_store(flows.runtime)
    assert run.findings == ()
    code["race"] = True
    (run,) = check_store(flows.runtime)
    assert run.breaks
