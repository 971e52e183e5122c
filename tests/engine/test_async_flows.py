"""Async flows: steps are awaited and run at once, sleeps too; nothing foreign is ever raised into a handler."""

import asyncio
import threading
from datetime import timedelta

from celeryflows import Event, Status


class Meeting:
    """Lets nobody through before all have come."""

    def __init__(self, parties):
        self.barrier = threading.Barrier(parties, timeout=10)
        self.waiting = parties
        self.all_here = asyncio.Event()

    def come(self):
        self.barrier.wait()
        return threading.get_ident()

    async def come_async(self):
        self.waiting -= 1
        if not self.waiting:
            self.all_here.set()
        await asyncio.wait_for(self.all_here.wait(), 10)
        return "met"


def test_steps_are_awaited_and_run_once(flows, flows_tester):
    async def double(n):
        await asyncio.sleep(0)
        return 2 * n

    @flows.flow
    async def flow(ctx):
        first = await ctx.step.run("first", double, 10)
        await ctx.step.sleep("rest", "1h")
        return await ctx.step.run("second", double, first)

    run = flows_tester.start(flow)
    assert run.status == Status.SUSPENDED
    flows_tester.advance("1h")

    assert (run.output, flows_tester.calls("first"), flows_tester.calls("second")) == (40, 1, 1)


def test_gather_runs_three_coroutine_steps_at_once(flows, flows_tester):
    @flows.flow
    async def flow(ctx):
        meeting = Meeting(3)
        return await asyncio.gather(*(ctx.step.run(f"party {n}", meeting.come_async) for n in range(3)))

    assert flows_tester.start(flow).output == ["met"] * 3


def test_sync_functions_as_steps_run_at_once_each_in_a_thread(flows, flows_tester):
    meeting = Meeting(3)

    @flows.flow
    async def flow(ctx):
        return await asyncio.gather(*(ctx.step.run(f"party {n}", meeting.come) for n in range(3)))

    threads = flows_tester.start(flow).output

    assert len(set(threads)) == 3
    assert threading.get_ident() not in threads


def test_a_sync_step_blocks_no_other_branch(flows, flows_tester):
    free = threading.Event()

    async def open_door():
        free.set()

    @flows.flow
    async def flow(ctx):
        waits, _ = await asyncio.gather(ctx.step.run("waits", free.wait, 10), ctx.step.run("opens", open_door))
        return waits

    assert flows_tester.start(flow).output is True


def test_a_celery_task_is_a_step_of_an_async_flow(app, flows, flows_tester):
    @app.task
    def double(n):
        return 2 * n

    @flows.flow
    async def flow(ctx):
        return await ctx.step.run("double", double, 21)

    assert flows_tester.start(flow).output == 42


def test_the_attempt_of_each_step_is_told_in_its_own_branch_and_thread(flows, flows_tester):
    seen = []

    def work(ctx, name, fails):
        seen.append((name, ctx.attempt))
        if ctx.attempt < fails:
            raise ValueError(name)
        return name

    @flows.flow
    async def flow(ctx):
        return await asyncio.gather(
            *(ctx.step.run(name, work, ctx, name, fails) for name, fails in zip("abc", (0, 1, 2), strict=True))
        )

    run = flows_tester.start(flow)
    flows_tester.advance("1h")

    assert run.output == ["a", "b", "c"]
    assert sorted(seen) == [("a", 0), ("b", 0), ("b", 1), ("c", 0), ("c", 1), ("c", 2)]


def test_sleeps_in_gather_sleep_at_once(flows, flows_tester):
    begun = flows_tester.now

    @flows.flow
    async def flow(ctx):
        await asyncio.gather(*(ctx.step.sleep(f"rest {hours}", f"{hours}h") for hours in (1, 3, 2)))
        return flows_tester.now.isoformat()

    run = flows_tester.start(flow)
    flows_tester.advance("1 day")

    assert run.output == (begun + timedelta(hours=3)).isoformat()


def test_gather_that_returns_exceptions_gets_none_from_sleeps_waits_and_retries(flows, flows_tester):
    def fail_at_first(ctx):
        if ctx.attempt == 0:
            raise ValueError("at first")
        return "worked"

    got = []

    @flows.flow
    async def flow(ctx):
        got.append(
            await asyncio.gather(
                ctx.step.sleep("rest", "1h"),
                ctx.step.wait_for_event("wait", event="order/paid", timeout="1 day"),
                ctx.step.run("work", fail_at_first, ctx),
                return_exceptions=True,
            )
        )
        return "through"

    run = flows_tester.start(flow)
    flows_tester.advance("2h")
    assert got == []
    flows_tester.send(Event("order/paid", {"id": 1}))

    assert run.output == "through"
    ((rest, paid, worked),) = got
    assert (rest, paid.data, worked) == (None, {"id": 1}, "worked")


def test_a_task_group_sees_no_foreign_exception(flows, flows_tester):
    @flows.flow
    async def flow(ctx):
        async with asyncio.TaskGroup() as group:
            rest = group.create_task(ctx.step.sleep("rest", "1h"))
            work = group.create_task(ctx.step.run("work", lambda: "worked"))
        await ctx.step.sleep("rest again", "1h")
        return [rest.result(), work.result()]

    run = flows_tester.start(flow)
    flows_tester.advance("2h")

    assert (run.output, flows_tester.calls("work")) == ([None, "worked"], 1)


def test_a_timeout_around_a_sleep_is_never_hit_by_the_sleep(flows, flows_tester):
    hit = []

    @flows.flow
    async def flow(ctx):
        try:
            async with asyncio.timeout(30):
                await ctx.step.sleep("rest", "1h")
        except TimeoutError:
            hit.append(1)
        return "through"

    run = flows_tester.start(flow)
    assert run.status == Status.SUSPENDED
    flows_tester.advance("1h")

    assert (run.output, hit) == ("through", [])


def test_a_short_timer_of_its_own_beside_a_sleep_is_waited_for(flows, flows_tester):
    rang = []

    async def timer():
        await asyncio.sleep(0.05)
        rang.append(1)

    @flows.flow
    async def flow(ctx):
        await asyncio.gather(ctx.step.sleep("rest", "1h"), timer())
        return "through"

    run = flows_tester.start(flow)
    assert rang == [1]
    flows_tester.advance("1h")

    assert run.output == "through"
