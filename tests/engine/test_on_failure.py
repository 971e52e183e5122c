"""on_failure: once for each run that failed, with the error, the run and its event; a flow with steps of its own."""

import asyncio

import pytest

from celeryflows import Event, Status


class CardDeclined(Exception):
    pass


def decline():
    raise CardDeclined("no 100 on the card")


@pytest.fixture
def told():
    return []


@pytest.fixture
def failing(flows, told):
    """A flow whose step fails, and whose on_failure notes what it is told."""

    @flows.flow(name="charge", trigger="order/placed", retries=1, on_failure=lambda ctx: told.append(ctx.event))
    def charge(ctx):
        ctx.step.run("charge", decline)

    return charge


def test_it_is_called_once_with_error_run_flow_and_the_original_event(flows_tester, failing, told):
    run = flows_tester.start(failing, Event("order/placed", {"id": 7}, id="evt-1", v="2"))
    flows_tester.advance("1 day")

    (event,) = told
    assert (event.name, event.data["run_id"], event.data["flow"]) == ("flows/run.failed", run.id, "charge")
    error = event.data["error"]
    assert (error["name"], error["message"], error["step_id"]) == ("CardDeclined", "no 100 on the card", "charge")
    assert "in decline" in error["stack"]
    original = event.data["event"]
    assert (original["name"], original["data"], original["id"], original["v"]) == (
        "order/placed",
        {"id": 7},
        "evt-1",
        "2",
    )
    assert event.data["events"] == [original]


def test_it_waits_for_the_last_attempt(flows_tester, failing, told):
    flows_tester.start(failing)
    assert told == []
    flows_tester.advance("1s")
    assert len(told) == 1


def test_it_runs_as_a_flow_of_its_own(flows_tester, failing):
    flows_tester.start(failing)
    flows_tester.advance("1s")

    (run,) = flows_tester.runs("charge.on_failure")
    assert run.status == Status.COMPLETED


def test_each_failed_run_is_told_apart(flows_tester, failing, told):
    runs = [flows_tester.start(failing, number=number) for number in range(3)]
    flows_tester.advance("1s")

    assert {(event.data["run_id"], event.data["event"]["data"]["number"]) for event in told} == {
        (run.id, number) for number, run in enumerate(runs)
    }
    assert len(told) == 3


def test_another_flows_failure_is_not_told(flows, flows_tester, failing, told):
    @flows.flow(name="other", retries=0)
    def other(ctx):
        decline()

    run = flows_tester.start(other)

    assert (run.status, told) == (Status.FAILED, [])


def test_the_bodys_own_error_is_told_too(flows, flows_tester, told):
    @flows.flow(retries=0, on_failure=lambda ctx: told.append(ctx.event.data["error"]))
    def flow(ctx):
        decline()

    flows_tester.start(flow)

    assert [(error["name"], error["step_id"]) for error in told] == [("CardDeclined", None)]


def test_it_is_called_once_though_three_parallel_steps_failed(flows, flows_tester, told):
    @flows.flow(retries=0, on_failure=lambda ctx: told.append(ctx.event.data["error"]))
    async def flow(ctx):
        await asyncio.gather(*(ctx.step.run(f"charge {number}", decline) for number in range(3)))

    run = flows_tester.start(flow)
    flows_tester.advance("1 day")

    assert (run.status, len(told)) == (Status.FAILED, 1)


def test_it_is_not_called_when_the_run_is_cancelled(flows, flows_tester, told):
    @flows.flow(on_failure=lambda ctx: told.append(1))
    def flow(ctx):
        ctx.step.sleep("rest", "1h")

    run = flows_tester.start(flow)
    assert run.cancel()
    flows_tester.advance("2h")

    assert (run.status, told) == (Status.CANCELLED, [])


def test_it_is_not_called_when_the_error_was_handled(flows, flows_tester, told):
    @flows.flow(retries=0, on_failure=lambda ctx: told.append(1))
    def flow(ctx):
        try:
            ctx.step.run("charge", decline)
        except Exception:
            return "handled"

    run = flows_tester.start(flow)

    assert (run.output, told) == ("handled", [])


def test_it_has_steps_and_retries_of_its_own(flows, flows_tester):
    def refund(ctx):
        if ctx.attempt == 0:
            raise TimeoutError("bank asleep")
        return "refunded"

    def clean_up(ctx):
        value = ctx.step.run("refund", refund, ctx)
        ctx.step.sleep("rest", "1h")
        return value

    @flows.flow(name="order", retries=0, on_failure=clean_up)
    def order(ctx):
        ctx.step.run("charge", decline)

    flows_tester.start(order)
    flows_tester.advance("1 day")

    (run,) = flows_tester.runs("order.on_failure")
    assert (run.output, flows_tester.calls("refund")) == ("refunded", 2)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_one_that_fails_ends_there(flows, flows_tester, kind):
    def fails(ctx):
        raise LookupError("no handler of handlers")

    async def fails_later(ctx):
        raise LookupError("no handler of handlers")

    @flows.flow(name="order", retries=0, on_failure=fails if kind == "sync" else fails_later)
    def order(ctx):
        decline()

    flows_tester.start(order)
    flows_tester.advance("1 day")

    assert len(flows_tester.runs()) == 2
    (run,) = flows_tester.runs("order.on_failure")
    assert (run.status, run.error.name) == (Status.FAILED, "LookupError")


def test_a_flow_on_failures_of_all_hears_them_and_does_not_start_itself(flows, flows_tester):
    @flows.flow(name="alarm", trigger="flows/run.failed", retries=0)
    def alarm(ctx):
        raise LookupError(ctx.event.data["flow"])

    @flows.flow(name="order", retries=0)
    def order(ctx):
        decline()

    flows_tester.start(order)

    (run,) = flows_tester.runs(alarm)
    assert run.error.message == "order"


def test_a_run_lost_too_often_is_told_as_failed(flows, flows_tester, told):
    @flows.flow(retries=20, on_failure=lambda ctx: told.append(ctx.event.data["error"]["name"]))
    def flow(ctx):
        ctx.step.run("explode", print)

    flows_tester.crash_in("explode", times=10)
    run = flows_tester.start(flow)

    assert (run.status, run.error.name, told) == (Status.FAILED, "WorkerLost", ["WorkerLost"])
