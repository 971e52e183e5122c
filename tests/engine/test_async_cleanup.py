"""Cleanups of async handlers: awaited at the end of every turn, whatever they do, within a bound."""

import asyncio
from contextlib import asynccontextmanager

from celeryflows import Status


def test_an_async_cleanup_is_awaited_at_the_end_of_every_turn(flows, flows_tester):
    closed = []

    @asynccontextmanager
    async def client(name):
        try:
            yield
        finally:
            await asyncio.sleep(0.01)
            closed.append(name)

    async def branch(ctx, name):
        async with client(name):
            await ctx.step.sleep(f"rest {name}", "1h")

    @flows.flow
    async def flow(ctx):
        async with client("outer"):
            await asyncio.gather(branch(ctx, "a"), branch(ctx, "b"))
        return "through"

    run = flows_tester.start(flow)
    assert sorted(closed) == ["a", "b", "outer"]
    flows_tester.advance("1h")

    assert run.output == "through"
    assert sorted(closed) == ["a", "a", "b", "b", "outer", "outer"]


def test_a_cleanup_whose_own_await_fails_goes_on_as_it_says(flows, flows_tester):
    closed = []

    async def hang_up():
        await asyncio.sleep(0)
        raise ConnectionError("gone already")

    @flows.flow
    async def flow(ctx):
        try:
            await ctx.step.sleep("rest", "1h")
        finally:
            try:
                await asyncio.wait_for(hang_up(), 1)
            except ConnectionError:
                closed.append("hung up")

    run = flows_tester.start(flow)
    flows_tester.advance("1h")

    assert (run.status, closed) == (Status.COMPLETED, ["hung up"] * 2)


def test_a_group_is_left_with_its_branches(flows, flows_tester):
    left = []

    async def branch(ctx, hours):
        try:
            await ctx.step.sleep(f"rest {hours}", f"{hours}h")
        finally:
            await asyncio.sleep(0)
            left.append(hours)

    @flows.flow
    async def flow(ctx):
        async with asyncio.TaskGroup() as group:
            for hours in (1, 2):
                group.create_task(branch(ctx, hours))
        return "through"

    run = flows_tester.start(flow)
    assert (run.status, sorted(left)) == (Status.SUSPENDED, [1, 2])
    flows_tester.advance("2h")

    assert (run.output, sorted(left)) == ("through", [1, 1, 1, 2, 2, 2])


def test_a_cleanup_that_never_ends_does_not_hold_the_worker(flows, flows_tester):
    @flows.flow
    async def flow(ctx):
        try:
            await ctx.step.sleep("rest", "1h")
        finally:
            if flows_tester.calls("work") == 0:
                await asyncio.sleep(3600)
        return "through"

    run = flows_tester.start(flow)

    assert run.status == Status.SUSPENDED


class Strange(BaseException):
    """No Exception: what gevent's Timeout and its like are."""


def test_a_step_left_by_no_exception_does_not_hold_a_turn_whose_other_branches_wait(flows, flows_tester):
    def body():
        raise Strange

    @flows.flow
    async def flow(ctx):
        left, _ = await asyncio.gather(ctx.step.run("a", body), ctx.step.sleep("b", "1h"), return_exceptions=True)
        return type(left).__name__

    run = flows_tester.start(flow)
    assert run.status == Status.SUSPENDED
    flows_tester.advance("1h")

    assert run.output == "Strange"
