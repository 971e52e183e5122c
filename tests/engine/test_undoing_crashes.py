"""Workers die while a failure is handled, in on_failure or in what undoes the steps before: each is done to its end."""

from typing import Any

import pytest

from celeryflows import Flows, Status, StepError
from celeryflows.testing import FlowsTester


def strike(tester: FlowsTester, how: str, step: str) -> None:
    """The worker dies once after the step's body, or right after its record."""
    (tester.crash_in if how == "in" else tester.crash_after)(step)


@pytest.mark.parametrize("how", ["in", "after"])
@pytest.mark.parametrize("steps", [["tell"], ["note"], ["tell", "note"]])
def test_on_failure_goes_on_where_its_worker_died_and_is_called_once(
    flows: Flows, flows_tester: FlowsTester, how: str, steps: list[str]
) -> None:
    told = []

    def handle(ctx: Any) -> Any:
        ctx.step.run("tell", lambda: told.append(ctx.event.data["run_id"]))
        ctx.step.sleep("rest", "1h")
        return ctx.step.run("note", lambda: ctx.event.data["error"]["message"])

    @flows.flow(retries=0, on_failure=handle)
    def order(ctx: Any) -> None:
        raise ValueError("no stock")

    for step in steps:
        strike(flows_tester, how, step)
    run = flows_tester.start(order)
    flows_tester.advance("1h")

    [handled] = flows_tester.runs(f"{run.flow}.on_failure")
    assert (run.status, handled.status, handled.output) == (Status.FAILED, Status.COMPLETED, "no stock")
    again = 2 if how == "in" else 1
    assert told == [run.id] * (again if "tell" in steps else 1)
    assert flows_tester.calls("note") == (again if "note" in steps else 1)


@pytest.mark.parametrize("how", ["in", "after"])
@pytest.mark.parametrize("struck", ["ship", "give back", "refund"])
def test_what_is_undone_is_undone_once_though_the_worker_dies_on_the_way(
    flows: Flows, flows_tester: FlowsTester, how: str, struck: str
) -> None:
    def ship() -> None:
        raise ValueError("no lorry")

    @flows.flow(retries=0)
    def order(ctx: Any) -> Any:
        ctx.step.run("charge", lambda: "paid")
        ctx.step.run("reserve", lambda: "held")
        try:
            ctx.step.run("ship", ship)
        except StepError as error:
            ctx.step.run("give back", lambda: "free")
            ctx.step.sleep("rest", "1h")
            ctx.step.run("refund", lambda: "paid back")
            return error.message

    strike(flows_tester, how, struck)
    run = flows_tester.start(order)
    flows_tester.advance("1h")

    assert (run.status, run.output) == (Status.COMPLETED, "no lorry")
    done = ("charge", "reserve", "ship", "give back", "refund")
    assert {step.id for step in run.steps} == {*done, "rest"}
    again = {struck: 2} if how == "in" else {}
    assert {step: flows_tester.calls(step) for step in done} == dict.fromkeys(done, 1) | again


@pytest.mark.parametrize("retries", [0, 2])
def test_a_handler_of_failures_that_kills_its_worker_each_time_ends_there(
    flows: Flows, flows_tester: FlowsTester, retries: int
) -> None:
    def handle(ctx: Any) -> None:
        ctx.step.using(retries=retries).run("tell", print)

    @flows.flow(retries=0, on_failure=handle)
    def order(ctx: Any) -> None:
        raise ValueError("no stock")

    flows_tester.crash_in("tell", times=100)
    run = flows_tester.start(order)
    flows_tester.advance("1 day")

    [handled] = flows_tester.runs(f"{run.flow}.on_failure")
    assert (handled.status, flows_tester.calls("tell")) == (Status.FAILED, retries + 2)
    assert len(flows_tester.runs()) == 2
