"""ctx.logger: each line once over any number of replays, in branches too; what is tried again may speak again."""

import asyncio
import logging

import pytest

from celeryflows import Event


@pytest.fixture
def lines(caplog):
    """Gives what was logged so far, without the name of the run."""
    caplog.set_level(logging.INFO, logger="celeryflows.run")
    return lambda: [r.getMessage().partition("] ")[2] for r in caplog.records if r.name == "celeryflows.run"]


def test_each_line_is_printed_once_and_in_its_turn(flows, flows_tester, lines, caplog):
    @flows.flow
    def talkative(ctx):
        ctx.logger.info("begins")
        for hour in range(3):
            ctx.step.run("work", lambda: 1)
            ctx.logger.info("worked %s", hour)
            ctx.step.sleep("rest", "1h")
            ctx.logger.info("rested %s", hour)
        ctx.logger.info("ends")

    run = flows_tester.start(talkative)
    assert lines() == ["begins", "worked 0"]
    flows_tester.advance("1h")
    assert lines() == ["begins", "worked 0", "rested 0", "worked 1"]
    flows_tester.advance("2h")

    assert lines()[4:] == ["rested 1", "worked 2", "rested 2", "ends"]
    assert all(record.getMessage().startswith(f"[run {run.id}] ") for record in caplog.records)


@pytest.mark.parametrize("comes", [True, False])
def test_a_line_behind_a_wait_is_printed_when_the_wait_is_over(flows, flows_tester, lines, comes):
    @flows.flow
    def waiting(ctx):
        ctx.logger.info("waits")
        found = ctx.step.wait_for_event("wait", event="order/paid", timeout="1h")
        ctx.logger.info("paid" if found else "not paid")
        ctx.step.sleep("rest", "1h")
        ctx.logger.info("rested")

    flows_tester.start(waiting)
    if comes:
        flows_tester.send(Event("order/paid"))
    flows_tester.advance("1h")
    flows_tester.advance("1h")

    assert lines() == ["waits", "paid" if comes else "not paid", "rested"]


def test_lines_around_a_step_that_is_tried_again_are_printed_once(flows, flows_tester, lines):
    def work(ctx):
        if ctx.attempt < 2:
            raise ValueError("not yet")

    @flows.flow
    def flow(ctx):
        ctx.logger.info("before")
        ctx.step.run("work", work, ctx)
        ctx.logger.info("after")

    flows_tester.start(flow)
    flows_tester.advance("1h")

    assert lines() == ["before", "after"]


def test_a_body_that_is_tried_again_says_what_it_did_not_come_to_before(flows, flows_tester, lines):
    @flows.flow
    def flow(ctx):
        ctx.logger.info("begins")
        ctx.step.run("work", lambda: 1)
        if ctx.attempt == 0:
            raise ValueError("the body's own")
        ctx.logger.info("got through")

    flows_tester.start(flow)
    flows_tester.advance("1h")

    assert lines() == ["begins", "got through"]


def test_after_a_crash_no_line_is_lost(flows, flows_tester, lines):
    @flows.flow
    def flow(ctx):
        ctx.step.run("charge", lambda: 1)
        ctx.logger.info("charged")

    flows_tester.crash_after("charge")
    flows_tester.start(flow)

    assert lines() == ["charged"]


def test_each_branch_of_an_async_flow_prints_its_lines_once(flows, flows_tester, lines):
    async def branch(ctx, name, hours):
        await ctx.step.run(f"work {name}", lambda: 1)
        ctx.logger.info("%s worked", name)
        for hour in range(hours):
            await ctx.step.sleep(f"rest {name}", "1h")
            ctx.logger.info("%s rested %s", name, hour)

    @flows.flow
    async def flow(ctx):
        ctx.logger.info("begins")
        await asyncio.gather(branch(ctx, "b", 1), branch(ctx, "a", 2), branch(ctx, "c", 2))
        ctx.logger.info("joined")
        await ctx.step.sleep("rest", "1h")
        ctx.logger.info("ends")

    run = flows_tester.start(flow)
    flows_tester.advance("1h")
    flows_tester.advance("1h")
    flows_tester.advance("1h")

    assert run.output is None
    assert sorted(lines()) == sorted(
        [
            "begins",
            *(f"{name} worked" for name in "abc"),
            *(f"{name} rested 0" for name in "abc"),
            *(f"{name} rested 1" for name in "ac"),
            "joined",
            "ends",
        ]
    )
    assert lines()[-2:] == ["joined", "ends"]
