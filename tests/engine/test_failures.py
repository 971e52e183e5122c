"""Failures: what a handler catches when a step's attempts are spent, and what is told of a run that failed."""

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from celeryflows import NonRetriableError, RunFailed, Status, StepError


class CardDeclined(Exception):
    pass


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no words")


def charge(amount):
    return inner_charge(amount)


def inner_charge(amount):
    raise CardDeclined(f"no {amount} on the card")


def test_a_spent_step_raises_a_step_error_that_tells_the_original(flows, flows_tester):
    caught = []

    @flows.flow(retries=0)
    def flow(ctx):
        try:
            ctx.step.run("charge", charge, 100)
        except StepError as error:
            caught.append(error)

    flows_tester.start(flow)

    (error,) = caught
    assert (error.step_id, error.name, error.message) == ("charge", "CardDeclined", "no 100 on the card")
    assert str(error) == "step 'charge' failed: CardDeclined: no 100 on the card"
    assert "in inner_charge" in error.stack


@pytest.mark.parametrize("kind", ["sync", "async", "async in a thread"])
def test_the_stack_is_the_users_without_our_own_frames(flows, flows_tester, kind):
    async def awaited_charge(amount):
        return inner_charge(amount)

    async def async_flow(ctx):
        await ctx.step.run("charge", awaited_charge if kind == "async" else charge, 100)

    def sync_flow(ctx):
        ctx.step.run("charge", charge, 100)

    flow = flows.flow(name="f", retries=0)(sync_flow if kind == "sync" else async_flow)

    stack = flows_tester.start(flow).error.stack

    assert "charge" in stack
    assert "in inner_charge" in stack
    assert stack.endswith("CardDeclined: no 100 on the card\n")
    assert "celeryflows/" not in stack
    assert "asyncio/" not in stack
    assert "concurrent/" not in stack


def test_the_bodys_stack_is_the_users_without_our_own_frames(flows, flows_tester):
    @flows.flow(retries=0)
    def flow(ctx):
        charge(100)

    stack = flows_tester.start(flow).error.stack

    assert "in flow" in stack
    assert "in inner_charge" in stack
    assert "celeryflows/" not in stack


def test_a_caught_step_error_lets_the_run_go_on_and_complete(flows, flows_tester):
    @flows.flow(retries=1)
    def flow(ctx):
        try:
            ctx.step.run("charge", charge, 100)
        except StepError as error:
            name = error.name
            ctx.step.sleep("calm down", "1h")
            return ctx.step.run("refuse", lambda: name)

    run = flows_tester.start(flow)
    flows_tester.advance("2h")

    assert (run.status, run.output) == (Status.COMPLETED, "CardDeclined")
    assert flows_tester.calls("charge") == 2


def test_a_step_error_is_the_same_on_replay(flows, flows_tester):
    caught = []

    @flows.flow(retries=0)
    def flow(ctx):
        try:
            ctx.step.run("charge", charge, 100)
        except StepError as error:
            caught.append((error.step_id, error.name, error.message, error.stack))
        ctx.step.sleep("rest", "1h")

    flows_tester.start(flow)
    flows_tester.advance("1h")

    assert caught == [caught[0]] * 2


def test_the_second_use_of_an_id_is_named_in_its_error(flows, flows_tester):
    @flows.flow(retries=0)
    def flow(ctx):
        for amount in (0, 100):
            ctx.step.run("charge", lambda amount=amount: amount and charge(amount))

    assert flows_tester.start(flow).error.step_id == "charge:1"


def test_uncaught_the_run_fails_at_once_and_the_body_is_not_run_again(flows, flows_tester):
    bodies = []

    @flows.flow(retries=1)
    def flow(ctx):
        bodies.append(1)
        ctx.step.run("charge", charge, 100)

    run = flows_tester.start(flow)
    assert run.status == Status.SUSPENDED
    flows_tester.advance("1s")
    assert run.status == Status.FAILED
    ended = run.ended_at
    flows_tester.advance("1 day")

    assert (len(bodies), flows_tester.calls("charge"), run.ended_at) == (2, 2, ended)


def test_the_handle_of_a_failed_run_tells_the_original_error(flows, flows_tester):
    @flows.flow(retries=0)
    def flow(ctx):
        ctx.step.run("charge", charge, 100)

    run = flows_tester.start(flow)

    assert (run.error.name, run.error.message, run.error.step_id) == ("CardDeclined", "no 100 on the card", "charge")
    assert run.output is None
    with pytest.raises(RunFailed) as failed:
        run.get(timeout=0)
    assert (failed.value.run_id, failed.value.name, failed.value.step_id) == (run.id, "CardDeclined", "charge")
    assert failed.value.message == "no 100 on the card"
    assert failed.value.stack == run.error.stack


def test_the_bodys_own_error_names_no_step(flows, flows_tester):
    @flows.flow(retries=0)
    def flow(ctx):
        ctx.step.run("fine", lambda: 1)
        raise CardDeclined("by the body")

    error = flows_tester.start(flow).error

    assert (error.name, error.message, error.step_id) == ("CardDeclined", "by the body", None)


def test_a_user_error_while_handling_a_step_error_is_the_runs(flows, flows_tester):
    @flows.flow(retries=0)
    def flow(ctx):
        try:
            ctx.step.run("charge", charge, 100)
        except StepError as error:
            raise LookupError("no refund account") from error

    run = flows_tester.start(flow)

    assert (run.status, run.error.name, run.error.message) == (Status.FAILED, "LookupError", "no refund account")
    assert "no 100 on the card" in run.error.stack


def test_a_user_error_while_handling_a_step_error_is_tried_again_as_the_bodys(flows, flows_tester):
    @flows.flow(retries=2)
    def flow(ctx):
        try:
            ctx.step.run("charge", charge, 100)
        except StepError as error:
            if ctx.attempt < 2:
                raise LookupError("not yet") from error
            return "refused"

    run = flows_tester.start(flow)
    flows_tester.advance("1h")

    assert (run.output, flows_tester.calls("charge")) == ("refused", 3)


def test_a_step_error_raised_again_from_another_step_is_not_tried_again(flows, flows_tester):
    @flows.flow
    def flow(ctx):
        try:
            ctx.step.run("charge", inner_fail)
        except StepError as error:
            ctx.step.run("report", again, error)

    def inner_fail():
        raise NonRetriableError("stop")

    def again(error):
        raise error

    run = flows_tester.start(flow)

    assert (run.status, run.error.name, flows_tester.calls("report")) == (Status.FAILED, "NonRetriableError", 1)


def test_the_soft_time_limit_inside_a_step_is_that_steps_error(flows, flows_tester):
    def slow(ctx):
        if ctx.attempt == 0:
            raise SoftTimeLimitExceeded
        return "in time"

    flow = flows.flow(name="f")(lambda ctx: ctx.step.run("slow", slow, ctx))
    run = flows_tester.start(flow)
    assert run.status == Status.SUSPENDED
    flows_tester.advance("1s")

    assert run.output == "in time"
