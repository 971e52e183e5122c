"""Promises of invoke: another flow's run is started once, and its end is the step's value or error."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from celeryflows import (
    Event,
    Flows,
    InvokeError,
    InvokeTimeout,
    NonRetriableError,
    Status,
    StepError,
)
from celeryflows.testing import FlowsTester


@dataclass
class Point:
    x: int


class Order(BaseModel):
    id: int
    at: datetime


@pytest.fixture
def echo(flows: Flows) -> Any:
    """A flow that gives back what it was started with."""
    return flows.flow(name="echo")(lambda ctx: [ctx.event.name, ctx.event.data])


def caught(call: Any) -> InvokeError:
    """The error of an invoke, as a handler sees it."""
    try:
        call()
    except InvokeError as error:
        return error
    raise AssertionError("nothing was raised")


def told(error: InvokeError) -> list[str]:
    """What a handler may return of it."""
    return [type(error).__name__, error.step_id, error.name, error.message, error.run_id]


# --- values


@pytest.mark.parametrize("value", [None, 0, "", [1, {"a": None}], {"at": datetime(2026, 1, 1, tzinfo=UTC)}])
def test_the_childs_value_is_the_steps_value(flows: Flows, flows_tester: FlowsTester, value: Any) -> None:
    child = flows.flow(name="child")(lambda ctx: value)
    parent = flows.flow(name="parent")(lambda ctx: [ctx.step.invoke("c", child)])

    assert flows_tester.start(parent).output == [value]


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        (None, ["flows/flow.invoked", {}]),
        ({"n": 1}, ["flows/flow.invoked", {"n": 1}]),
        (7, ["flows/flow.invoked", {"value": 7}]),
        ([1, 2], ["flows/flow.invoked", {"value": [1, 2]}]),
        (Event("order/placed", {"n": 2}), ["order/placed", {"n": 2}]),
        (
            Order(id=3, at=datetime(2026, 1, 1, tzinfo=UTC)),
            ["flows/flow.invoked", {"id": 3, "at": "2026-01-01T00:00:00Z"}],
        ),
    ],
)
def test_data_is_what_delay_takes(flows: Flows, flows_tester: FlowsTester, echo: Any, data: Any, seen: Any) -> None:
    parent = flows.flow(name="parent")(lambda ctx: ctx.step.invoke("c", echo, data))

    assert flows_tester.start(parent).output == seen


def test_an_event_of_an_invoke_starts_and_answers_no_others(flows: Flows, flows_tester: FlowsTester, echo: Any) -> None:
    flows.flow(name="hears", trigger="order/placed")(lambda ctx: None)

    @flows.flow(name="waits")
    def waits(ctx: Any) -> Any:
        ctx.step.sleep("rest", "1h")
        return ctx.step.wait_for_event("w", event="order/placed", timeout="1h", lookback="run")

    waiting = flows_tester.start(waits)
    flows_tester.start(flows.flow(name="parent")(lambda ctx: ctx.step.invoke("c", echo, Event("order/placed"))))
    flows_tester.advance("3h")

    assert flows_tester.runs("hears") == []
    assert waiting.output is None


def test_a_flow_is_named_by_its_task_or_its_name(flows: Flows, flows_tester: FlowsTester, echo: Any) -> None:
    @flows.flow(name="parent")
    def parent(ctx: Any) -> Any:
        return [ctx.step.invoke("task", echo, 1)[1], ctx.step.invoke("name", "echo", 2)[1]]

    assert flows_tester.start(parent).output == [{"value": 1}, {"value": 2}]


def test_the_parent_holds_nothing_while_its_child_sleeps(flows: Flows, flows_tester: FlowsTester) -> None:
    def sleeper(ctx: Any) -> str:
        ctx.step.sleep("nap", "2 days")
        return "rested"

    flows.flow(name="child")(sleeper)
    run = flows_tester.start(flows.flow(name="parent")(lambda ctx: ctx.step.invoke("c", "child")))

    assert run.status == Status.SUSPENDED
    flows_tester.advance("2 days")
    assert run.output == "rested"


def test_an_event_of_tomorrow_starts_the_child_then(flows: Flows, flows_tester: FlowsTester, echo: Any) -> None:
    @flows.flow(name="parent")
    def parent(ctx: Any) -> Any:
        return ctx.step.invoke("c", echo, Event("a/b", {"n": 1}, ts=flows_tester.now + timedelta(days=1)))

    run = flows_tester.start(parent)
    assert [child.status for child in flows_tester.runs(echo)] == [Status.SCHEDULED]
    flows_tester.advance("1 day")
    assert run.output == ["a/b", {"n": 1}]


# --- once


def test_retries_and_replays_start_the_child_once(flows: Flows, flows_tester: FlowsTester, echo: Any) -> None:
    failures = iter([ValueError("first"), ValueError("second")])

    @flows.flow(name="parent")
    def parent(ctx: Any) -> Any:
        found = ctx.step.invoke("c", echo, {"n": 1})
        ctx.step.sleep("nap", "1h")
        if error := next(failures, None):
            raise error
        return found[1]

    run = flows_tester.start(parent)
    flows_tester.advance("3h")

    assert run.output == {"n": 1}
    assert len(flows_tester.runs(echo)) == 1


def test_one_id_in_a_loop_starts_a_child_for_each_use(flows: Flows, flows_tester: FlowsTester, echo: Any) -> None:
    parent = flows.flow(name="parent")(lambda ctx: [ctx.step.invoke("c", echo, n)[1]["value"] for n in range(3)])

    run = flows_tester.start(parent)

    assert run.output == [0, 1, 2]
    assert [step.id for step in run.steps] == ["c", "c:1", "c:2"]


def test_async_flows_run_three_children_at_once(flows: Flows, flows_tester: FlowsTester) -> None:
    @flows.flow(name="child")
    async def child(ctx: Any) -> Any:
        await ctx.step.sleep("nap", f"{3 - ctx.event.data['n']}h")
        return ctx.event.data["n"]

    @flows.flow(name="parent")
    async def parent(ctx: Any) -> Any:
        return await asyncio.gather(*(ctx.step.invoke(f"c{n}", child, {"n": n}) for n in range(3)))

    run = flows_tester.start(parent)
    assert [child.status for child in flows_tester.runs(child)] == [Status.SUSPENDED] * 3
    flows_tester.advance("3h")

    assert run.output == [0, 1, 2]
    assert len(flows_tester.runs(child)) == 3


def test_lines_behind_an_invoke_are_logged_once(
    flows: Flows, flows_tester: FlowsTester, echo: Any, caplog: pytest.LogCaptureFixture
) -> None:
    @flows.flow(name="parent")
    def parent(ctx: Any) -> None:
        ctx.logger.warning("before")
        ctx.step.invoke("c", echo)
        ctx.logger.warning("between")
        ctx.step.invoke("d", echo)
        ctx.logger.warning("after")

    flows_tester.start(parent)

    assert [line.getMessage().split("] ")[1] for line in caplog.records] == ["before", "between", "after"]


# --- errors


def test_a_failed_child_is_an_invoke_error_with_its_name_and_message(flows: Flows, flows_tester: FlowsTester) -> None:
    def fail(ctx: Any) -> None:
        ctx.step.run("charge", lambda: 1 / 0)

    child = flows.flow(name="child", retries=0)(fail)
    parent = flows.flow(name="parent")(lambda ctx: told(caught(lambda: ctx.step.invoke("c", child))))

    run = flows_tester.start(parent)

    (failed,) = flows_tester.runs(child)
    assert run.output == ["InvokeError", "c", "ZeroDivisionError", "division by zero", failed.id]


def test_an_invoke_error_is_a_step_error_and_uncaught_it_fails_the_parent_at_once(
    flows: Flows, flows_tester: FlowsTester
) -> None:
    def fail(ctx: Any) -> None:
        raise NonRetriableError("no stock")

    flows.flow(name="child")(fail)
    run = flows_tester.start(flows.flow(name="parent")(lambda ctx: ctx.step.invoke("c", "child")))

    assert issubclass(InvokeTimeout, InvokeError)
    assert issubclass(InvokeError, StepError)
    assert (run.status, run.error.name, run.error.message, run.error.step_id) == (
        Status.FAILED,
        "NonRetriableError",
        "no stock",
        "c",
    )
    assert len(flows_tester.runs("child")) == 1


def test_an_unknown_flow_is_an_error_that_names_the_known_ones(
    flows: Flows, flows_tester: FlowsTester, echo: Any
) -> None:
    @flows.flow(name="parent")
    def parent(ctx: Any) -> Any:
        error = caught(lambda: ctx.step.invoke("c", "ecko"))
        ctx.step.sleep("nap", "1h")
        return told(error)

    run = flows_tester.start(parent)
    flows_tester.advance("1h")

    message = "No flow 'ecko'. Known: echo, parent. Is its module imported by the worker?"
    assert run.output == ["InvokeError", "c", "UnknownFlow", message, ""]


@pytest.mark.parametrize(
    ("data", "name"),
    [(object(), "InvalidEvent"), (Event("flows/mine"), "InvalidEvent"), ({"a": "x" * 600_000}, "InvalidEvent")],
)
def test_data_that_cannot_be_sent_fails_the_step_and_starts_nothing(
    flows: Flows, flows_tester: FlowsTester, echo: Any, data: Any, name: str
) -> None:
    parent = flows.flow(name="parent")(lambda ctx: caught(lambda: ctx.step.invoke("c", echo, data)).name)

    assert flows_tester.start(parent).output == name
    assert flows_tester.runs(echo) == []


@pytest.mark.parametrize("flow", [7, None, {"task": "echo", "args": []}])
def test_what_is_no_flow_is_a_type_error(flows: Flows, flows_tester: FlowsTester, flow: Any) -> None:
    run = flows_tester.start(flows.flow(name="parent", retries=0)(lambda ctx: ctx.step.invoke("c", flow)))

    assert run.error.name == "TypeError"


@pytest.mark.parametrize("timeout", [10, "367 days", "soon"])
def test_a_timeout_that_cannot_be_fails_the_run(
    flows: Flows, flows_tester: FlowsTester, echo: Any, timeout: Any
) -> None:
    run = flows_tester.start(flows.flow(name="parent")(lambda ctx: ctx.step.invoke("c", echo, timeout=timeout)))

    assert run.error.name in ("InvalidDuration", "BoundExceeded")
    assert flows_tester.runs(echo) == []
