"""step.using: the same tools with other retries and backoff; what a tool does not take is refused with the remedy."""

import asyncio
from datetime import timedelta

import pytest

from celeryflows import Backoff, Status, StepError, StepMisuse


class Boom(Exception):
    pass


def fail():
    raise Boom("no")


def test_a_step_has_its_own_retries_beside_those_of_its_flow(flows, flows_tester):
    @flows.flow(retries=1)
    def flow(ctx):
        for name, step in (("more", ctx.step.using(retries=5)), ("none", ctx.step.using(retries=0)), ("own", ctx.step)):
            with pytest.raises(StepError):
                step.run(name, fail)

    run = flows_tester.start(flow)
    flows_tester.advance("1h")

    assert run.status == Status.COMPLETED
    assert [flows_tester.calls(name) for name in ("more", "none", "own")] == [6, 1, 2]


def test_an_async_flow_has_the_same_tools(flows, flows_tester):
    @flows.flow(retries=0)
    async def flow(ctx):
        patient = ctx.step.using(retries=2, backoff=Backoff("1m", factor=1))
        with pytest.raises(StepError):
            await asyncio.gather(patient.run("a", fail), ctx.step.run("b", lambda: 1))

    run = flows_tester.start(flow)
    flows_tester.advance("1m")
    assert flows_tester.calls("a") == 2
    flows_tester.advance("1m")

    assert (run.status, flows_tester.calls("a"), flows_tester.calls("b")) == (Status.COMPLETED, 3, 1)


@pytest.mark.parametrize("backoff", [Backoff("10m", factor=1), lambda attempt: timedelta(minutes=10)])
def test_a_step_has_its_own_backoff(flows, flows_tester, backoff):
    @flows.flow
    def flow(ctx):
        return ctx.step.using(backoff=backoff).run("work", fail)

    flows_tester.start(flow)
    flows_tester.advance("9m 59s")
    assert flows_tester.calls("work") == 1
    flows_tester.advance("1s")
    assert flows_tester.calls("work") == 2


def test_options_are_put_on_top_of_options_and_leave_those_they_came_from_alone(flows, flows_tester):
    @flows.flow(retries=0)
    def flow(ctx):
        twice = ctx.step.using(retries=1, backoff=Backoff("1s", factor=1))
        thrice = twice.using(retries=2)
        for name, step in (("twice", twice), ("thrice", thrice), ("once", ctx.step)):
            with pytest.raises(StepError):
                step.run(name, fail)

    flows_tester.start(flow)
    flows_tester.advance("3s")

    assert [flows_tester.calls(name) for name in ("twice", "thrice", "once")] == [2, 3, 1]


def test_attempt_and_max_attempts_are_those_of_the_step(flows, flows_tester):
    seen = []

    @flows.flow(retries=3)
    def flow(ctx):
        def look():
            seen.append((ctx.attempt, ctx.max_attempts))
            if ctx.attempt < 1:
                raise Boom

        ctx.step.using(retries=7).run("look", look)
        ctx.step.run("plain", lambda: seen.append((ctx.attempt, ctx.max_attempts)))
        return ctx.max_attempts

    run = flows_tester.start(flow)
    flows_tester.advance("1m")

    assert seen == [(0, 8), (1, 8), (0, 4)]
    assert run.output == 4


def test_a_step_that_loses_its_worker_is_charged_by_its_own_retries(flows, flows_tester):
    @flows.flow(retries=9)
    def flow(ctx):
        with pytest.raises(StepError, match="worker died"):
            ctx.step.using(retries=1).run("poison", lambda: 1)

    flows_tester.crash_in("poison", times=3)
    run = flows_tester.start(flow)

    assert (run.status, flows_tester.calls("poison")) == (Status.COMPLETED, 3)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"retries": 21}, "retries=21; a whole number, 0 to 20"),
        ({"retries": True}, "retries=True"),
        ({"backoff": 3}, "a Backoff"),
        ({"timeout": 30}, "no unit"),
        ({"timeout": "0s"}, "timeout"),
        ({"output_type": "Order"}, "Give a model"),
        ({"output_type": object()}, "Give a model"),
        ({"cancel_with_parent": "yes"}, "True or False"),
    ],
)
def test_a_value_that_cannot_be_ends_the_run_with_what_to_give(flows, flows_tester, options, told):
    @flows.flow
    def flow(ctx):
        ctx.step.using(**options).run("work", lambda: 1)

    run = flows_tester.start(flow)

    assert (run.status, run.error.name) == (Status.FAILED, "StepMisuse")
    assert told in run.error.message
    assert flows_tester.calls("work") == 0


def test_a_timeout_has_the_bound_of_every_wait(flows, flows_tester):
    @flows.flow
    def flow(ctx):
        ctx.step.using(timeout="367 days").run("work", lambda: 1)

    run = flows_tester.start(flow)

    assert (run.status, run.error.name, flows_tester.calls("work")) == (Status.FAILED, "BoundExceeded", 0)


REFUSED = [
    (lambda step: step.using(timeout="1s").sleep("nap", "1h"), "sleep"),
    (lambda step: step.using(retries=1).sleep_until("nap", "2030-01-01T00:00:00Z"), "has no attempts"),
    (
        lambda step: step.using(timeout="1s").wait_for_event("nap", event="a/b", timeout="1h"),
        "wait_for_event(..., time",
    ),
    (
        lambda step: step.using(output_type=int).wait_for_event("nap", event="a/b", timeout="1h"),
        "flows.event(name, Mod",
    ),
    (lambda step: step.using(backoff=Backoff()).send_event("nap", []), "has no attempts"),
    (lambda step: step.using(cancel_with_parent=True).run("nap", int), "belongs to invoke"),
]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(("call", "told"), REFUSED)
def test_an_option_that_a_tool_does_not_take_ends_the_run_whatever_it_catches(
    flows, flows_tester, call, told, is_async
):
    @flows.flow
    def flow(ctx):
        try:
            call(ctx.step)
        except Exception:
            return "swallowed"

    @flows.flow
    async def async_flow(ctx):
        try:
            await call(ctx.step)
        except Exception:
            return "swallowed"

    run = flows_tester.start(async_flow if is_async else flow)

    assert (run.status, run.error.name) == (Status.FAILED, StepMisuse.__name__)
    assert "step 'nap'" in run.error.message
    assert told in run.error.message
