"""What errors and bodies say of retries: not again, again at a moment, and the body's own attempts."""

from datetime import datetime, timedelta

import pytest

from celeryflows import NonRetriableError, RetryAfterError, Status
from tests.engine.attempts import SECONDS, Boom, always, moments_of, until


class Final(NonRetriableError):
    pass


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
