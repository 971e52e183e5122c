"""Retries: how often, how far apart, and what ends them. Each step has a counter of its own, and so has the body."""

from datetime import datetime, timedelta

import pytest

from celeryflows import Backoff, DeclarationError, NonRetriableError, RetryAfterError, Status

SECONDS = timedelta(seconds=1)


class Boom(Exception):
    pass


class Final(NonRetriableError):
    pass


def moments_of(flows, flows_tester, fail, **options):
    """Runs a flow whose one step calls `fail(attempt)`; the run, and when each attempt was made, in seconds."""
    begun, made = flows_tester.now, []

    def attempt(ctx):
        made.append((flows_tester.now - begun) / SECONDS)
        return fail(ctx.attempt)

    @flows.flow(**options)
    def flow(ctx):
        return ctx.step.run("work", attempt, ctx)

    run = flows_tester.start(flow)
    flows_tester.advance("30 days")
    return run, made


def always(error):
    def fail(_attempt):
        raise error

    return fail


def until(attempt, error=None):
    def fail(now):
        if now < attempt:
            raise error or Boom(f"attempt {now}")
        return f"worked at {now}"

    return fail


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

    waits = [b - a for a, b in zip(made, made[1:], strict=False)]
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

    assert [b - a for a, b in zip(made, made[1:], strict=False)] == waits


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


@pytest.mark.parametrize("error", [NonRetriableError("stop"), Final("stop")], ids=["itself", "a subclass"])
def test_a_step_that_says_so_is_not_tried_again(flows, flows_tester, error):
    run, made = moments_of(flows, flows_tester, always(error))

    assert len(made) == 1
    assert (run.error.name, run.error.message) == (type(error).__name__, "stop")


@pytest.mark.parametrize("error", [NonRetriableError("stop"), Final("stop")], ids=["itself", "a subclass"])
def test_a_body_that_says_so_is_not_tried_again(flows, flows_tester, error):
    bodies = []

    @flows.flow
    def flow(ctx):
        bodies.append(1)
        raise error

    run = flows_tester.start(flow)
    flows_tester.advance("1h")

    assert (run.status, run.error.name, len(bodies)) == (Status.FAILED, type(error).__name__, 1)


AFTER = [
    (90, 90),
    (2.5, 2.5),
    ("2m", 120),
    (timedelta(minutes=3), 180),
    (0, 1),
    (-5, 1),
    ("100 ms", 1),
    (timedelta(days=3), 86_400),
    (10**9, 86_400),
]


@pytest.mark.parametrize(("after", "wait"), AFTER, ids=repr)
@pytest.mark.parametrize("where", ["step", "body"])
def test_an_error_may_say_when_to_try_again_between_a_second_and_a_day(flows, flows_tester, after, wait, where):
    made = []

    def work(attempt):
        made.append(flows_tester.now)
        if attempt == 0:
            raise RetryAfterError("busy", after)
        return "worked"

    @flows.flow
    def flow(ctx):
        return ctx.step.run("work", lambda: work(ctx.attempt)) if where == "step" else work(ctx.attempt)

    run = flows_tester.start(flow)
    flows_tester.advance("2 days")

    assert ((made[1] - made[0]) / SECONDS, run.output) == (wait, "worked")


def test_an_error_may_name_the_moment_at_which_to_try_again(flows, flows_tester):
    when = flows_tester.now + timedelta(hours=5)

    run, made = moments_of(flows, flows_tester, until(1, RetryAfterError("closed", when)))

    assert (made, run.output) == ([0, 5 * 3600], "worked at 1")


def test_an_error_that_says_when_still_counts_as_an_attempt(flows, flows_tester):
    run, made = moments_of(flows, flows_tester, always(RetryAfterError("busy", "10s")), retries=2)

    assert made == [0, 10, 20]
    assert (run.status, run.error.name, run.error.message) == (Status.FAILED, "RetryAfterError", "busy")


@pytest.mark.parametrize("after", ["soon", None, datetime(2026, 1, 1)], ids=["text", "none", "naive"])
@pytest.mark.parametrize("where", ["step", "body"])
def test_a_wait_that_cannot_be_read_ends_the_run_with_its_error(flows, flows_tester, after, where):
    @flows.flow
    def flow(ctx):
        if where == "step":
            ctx.step.run("work", always(RetryAfterError("busy", after)), 0)
        raise RetryAfterError("busy", after)

    run = flows_tester.start(flow)
    flows_tester.advance("2 days")

    assert run.status == Status.FAILED
    assert run.error.name != "RetryAfterError"


def test_the_bodys_own_error_tries_the_body_again_and_keeps_the_memos(flows, flows_tester):
    bodies = []

    @flows.flow
    def flow(ctx):
        bodies.append(ctx.attempt)
        charged = ctx.step.run("charge", lambda: "paid")
        if ctx.attempt < 2:
            raise Boom("the body's own")
        return charged

    run = flows_tester.start(flow)
    assert (run.status, run.error.name) == (Status.SUSPENDED, "Boom")
    flows_tester.advance("1h")

    assert (run.output, bodies, flows_tester.calls("charge")) == ("paid", [0, 1, 2], 1)
    assert run.error is None


def test_the_bodys_attempts_last_over_its_sleeps(flows, flows_tester):
    bodies = []

    @flows.flow(retries=1)
    def flow(ctx):
        ctx.step.sleep("rest", "1h")
        bodies.append(ctx.attempt)
        ctx.step.sleep(f"rest after {ctx.attempt}", "1h")
        raise Boom

    run = flows_tester.start(flow)
    flows_tester.advance("1 day")

    assert (run.status, bodies) == (Status.FAILED, [0, 0, 1, 1])
