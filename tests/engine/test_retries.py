"""Retries: how often, how far apart, and what ends them. Each step has a counter of its own, and so has the body."""

from datetime import timedelta
from itertools import pairwise

import pytest

from celeryflows import Backoff, DeclarationError, Status
from tests.engine.attempts import SECONDS, Boom, always, moments_of


def test_a_step_that_fails_twice_then_works_is_called_three_times_and_what_follows_once(flows, flows_tester):
    after = []

    def flaky(ctx):
        if ctx.attempt < 2:
            raise Boom
        return "worked"

    @flows.flow
    def flow(ctx):
        ctx.step.run("before", lambda: 1)
        value = ctx.step.run("work", flaky, ctx)
        after.append(value)
        return value

    run = flows_tester.start(flow)
    flows_tester.advance("1h")

    assert (run.output, after) == ("worked", ["worked"])
    assert (flows_tester.calls("before"), flows_tester.calls("work")) == (1, 3)


@pytest.mark.parametrize(("retries", "calls"), [(0, 1), (1, 2), (20, 21)])
def test_retries_follow_the_first_attempt(flows, flows_tester, retries, calls):
    run, made = moments_of(flows, flows_tester, always(Boom("no")), retries=retries)

    assert (len(made), run.status) == (calls, Status.FAILED)
    (step,) = run.steps
    assert (step.attempts, step.state) == (calls, "failed")


def test_three_retries_are_the_default(flows, flows_tester):
    assert len(moments_of(flows, flows_tester, always(Boom()))[1]) == 4


@pytest.mark.parametrize("retries", [21, -1, True, 1.0, "3", None])
def test_other_numbers_of_retries_are_refused_when_declared(flows, retries):
    with pytest.raises(DeclarationError, match="0 to 20"):
        flows.flow(retries=retries)(lambda ctx: None)


def test_a_backing_off_run_holds_no_worker(flows, flows_tester):
    flows_tester.stub("work", Boom)

    @flows.flow
    def flow(ctx):
        ctx.step.run("work", print)

    run = flows_tester.start(flow)

    assert run.status == Status.SUSPENDED
    (step,) = run.steps
    assert (step.state, step.attempts) == ("retrying", 1)
    flows_tester.advance("999 ms")
    assert flows_tester.calls("work") == 1
    flows_tester.advance("1 ms")
    assert flows_tester.calls("work") == 2


def test_waits_between_attempts_double_from_one_second_up_to_an_hour(flows, flows_tester):
    _, made = moments_of(flows, flows_tester, always(Boom()), retries=15)

    waits = [b - a for a, b in pairwise(made)]
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600, 3600]


def test_jitter_adds_up_to_a_tenth(flows, flows_tester):
    flows_tester._runtime.dice = lambda: 1.0

    _, made = moments_of(flows, flows_tester, always(Boom()), retries=3)

    assert made == pytest.approx([0, 1.1, 3.3, 7.7])


@pytest.mark.parametrize(
    ("backoff", "waits"),
    [
        (Backoff(first="10s", factor=3, max="1m"), [10, 30, 60, 60]),
        (Backoff(first="1h", factor=1), [3600] * 4),
        (lambda attempt: timedelta(minutes=attempt), [60, 120, 180, 240]),
        (lambda attempt: "90s", [90] * 4),
        (lambda attempt: timedelta(0), [0] * 4),
    ],
    ids=["backoff", "constant", "timedelta", "text", "zero"],
)
def test_a_backoff_of_ones_own_decides_the_waits(flows, flows_tester, backoff, waits):
    _, made = moments_of(flows, flows_tester, always(Boom()), retries=4, backoff=backoff)

    assert [b - a for a, b in pairwise(made)] == waits


def test_the_backoff_counts_for_the_body_too(flows, flows_tester):
    made, begun = [], flows_tester.now

    @flows.flow(retries=2, backoff=Backoff(first="10s", factor=2))
    def flow(ctx):
        made.append((ctx.attempt, (flows_tester.now - begun) / SECONDS))
        raise Boom

    run = flows_tester.start(flow)
    flows_tester.advance("1h")

    assert made == [(0, 0), (1, 10), (2, 30)]
    assert (run.status, run.error.name) == (Status.FAILED, "Boom")


@pytest.mark.parametrize("backoff", [lambda attempt: 1 / 0, lambda attempt: "soon", lambda attempt: None])
@pytest.mark.parametrize("where", ["step", "body"])
def test_a_backoff_that_breaks_ends_the_run_with_its_error(flows, flows_tester, backoff, where):
    @flows.flow(backoff=backoff)
    def flow(ctx):
        if where == "step":
            ctx.step.run("work", always(Boom("first")), 0)
        raise Boom("first")

    run = flows_tester.start(flow)
    flows_tester.advance("1h")

    assert run.status == Status.FAILED
    assert run.error.name in ("ZeroDivisionError", "InvalidDuration")
