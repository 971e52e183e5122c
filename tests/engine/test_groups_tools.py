"""Every step tool inside a branch: invoke, signals, transactions, options, cancelling; and the step around it."""

import asyncio
from functools import partial

import pytest
from sqlalchemy import text

from celeryflows import CancelOn, Event, Status, StepError, Timeouts

pytestmark = pytest.mark.usefixtures("each_way")


def nap(ctx, seconds, value=None):
    ctx.step.sleep("nap", f"{seconds}s")
    return value


def test_branches_invoke_wait_for_signals_and_write_in_transactions(flows, flows_tester):
    @flows.flow(name="child")
    def child(ctx):
        ctx.step.sleep("nap", "2s")
        return ctx.event.data["n"] * 2

    def write(connection):
        return connection.execute(text("SELECT 7")).scalar()

    @flows.flow
    def flow(ctx):
        def signal():
            return ctx.step.wait_for_signal("go", "shop/go", timeout="1h").data

        return ctx.group.parallel(
            *[partial(ctx.step.invoke, "child", child, {"n": n}) for n in range(3)],
            signal,
            partial(ctx.step.transaction, "write", write),
            partial(ctx.step.using(retries=0).run, "using", lambda: 5),
        )

    run = flows_tester.start(flow)
    flows_tester.advance("2s")
    assert run.status == Status.SUSPENDED
    assert flows.signal("shop/go", "went") == run.id
    flows_tester.advance("0s")
    assert run.output == [0, 2, 4, "went", 7, 5]


def test_a_signal_that_two_branches_wait_for_is_the_firsts_or_replaced(flows, flows_tester):
    @flows.flow
    def flow(ctx):
        def wait(on_conflict):
            try:
                got = ctx.step.wait_for_signal("go", "shop/go", timeout="1h", on_conflict=on_conflict)
            except StepError as error:
                return error.name
            return got and got.data

        return ctx.group.parallel(partial(wait, "fail"), partial(wait, "fail"), partial(wait, "replace"))

    run = flows_tester.start(flow)
    flows.signal("shop/go", "word")
    flows_tester.advance("0s")
    assert run.output == [None, "SignalTaken", "word"]


def test_the_timeouts_of_waits_in_branches_come_in_their_time(flows, flows_tester):
    @flows.flow(name="child")
    def child(ctx):
        ctx.step.sleep("nap", "1 day")

    @flows.flow
    def flow(ctx):
        def invoke():
            try:
                ctx.step.invoke("child", child, timeout="30s")
            except StepError as error:
                return error.name

        return ctx.group.parallel(
            invoke,
            partial(ctx.step.wait_for_signal, "s", "shop/never", timeout="40s"),
            partial(ctx.step.wait_for_event, "e", event="x/y", timeout="50s"),
        )

    run = flows_tester.start(flow)
    flows_tester.advance("49s")
    assert run.status == Status.SUSPENDED
    flows_tester.advance("1s")
    assert run.output == ["InvokeTimeout", None, None]


def test_cancel_on_and_timeouts_end_a_run_whose_branches_are_out(flows, flows_tester):
    @flows.flow(name="cancelled", trigger="order/placed", cancel_on=[CancelOn("order/cancelled", match="data.id")])
    def cancelled(ctx):
        ctx.group.parallel(partial(nap, ctx, 600), partial(ctx.step.wait_for_event, "w", event="x/y", timeout="1h"))

    @flows.flow(name="late", timeouts=Timeouts(finish="5 min"))
    def late(ctx):
        ctx.group.parallel(partial(nap, ctx, 600), partial(nap, ctx, 900))

    first, second = flows_tester.start(cancelled, Event("order/placed", {"id": 1})), flows_tester.start(late)
    flows_tester.send("order/cancelled", {"id": 1})
    flows_tester.advance("5 min")
    assert [first.status, second.status] == [Status.CANCELLED] * 2
    with flows.runtime.store.connection() as connection:
        assert connection.execute("SELECT DISTINCT status FROM flows_branches") == [("cancelled",)]
        assert connection.runs.next_due() is None


def test_a_branch_whose_own_event_cancels_its_run_stops_behind_that_step(flows, flows_tester):
    ran = []

    @flows.flow(trigger="order/placed", cancel_on=[CancelOn("order/cancelled", match="data.id")])
    def flow(ctx):
        def sends():
            ctx.step.send_event("tell", Event("order/cancelled", {"id": 1}))
            ran.append("beyond")

        ctx.group.parallel(partial(nap, ctx, 60), sends)

    run = flows_tester.start(flow, Event("order/placed", {"id": 1}))
    flows_tester.advance("2 min")
    assert (run.status, ran) == (Status.CANCELLED, [])


def test_continue_as_new_in_a_branch_is_refused_and_behind_the_group_goes_on(flows, flows_tester):
    @flows.flow(name="inside")
    def inside(ctx):
        ctx.group.parallel(lambda: ctx.continue_as_new({"n": 1}))

    @flows.flow(name="behind")
    def behind(ctx):
        n = ctx.event.data["n"]
        ctx.group.parallel(partial(nap, ctx, 1), lambda: n)
        return ctx.continue_as_new({"n": n - 1}) if n else "done"

    refused, run = flows_tester.start(inside), flows_tester.start(behind, n=2)
    flows_tester.advance("1 min")
    assert "behind the group" in refused.error.message
    assert run.get(timeout=1) == "done"


def test_tools_around_the_branch_of_an_async_turn_do_nothing_of_their_own(flows, flows_tester):
    @flows.flow(name="child")
    def child(ctx):
        return 1

    @flows.flow
    async def flow(ctx):
        async def branch(n):
            await ctx.step.sleep("nap", f"{n}s")
            return await ctx.step.run("work", lambda: n)

        return await asyncio.gather(
            ctx.group.parallel(partial(branch, n) for n in (1, 2, 3)),
            ctx.step.invoke("child", child),
            ctx.step.wait_for_event("event", event="x/y", timeout="2s"),
            ctx.step.wait_for_signal("signal", "shop/go", timeout="2s"),
            ctx.step.send_event("send", Event("x/told")),
            ctx.step.transaction("write", lambda connection: 4),
            ctx.step.sleep("rest", "2s"),
        )

    run = flows_tester.start(flow)
    flows_tester.advance("10s")
    values, invoked, event, signal, sent, written, _ = run.output
    assert (values, invoked, event, signal, len(sent), written) == ([1, 2, 3], 1, None, None, 1, 4)
    assert flows_tester.calls("work", run) == 3
    assert len(flows_tester.runs("child")) == 1
