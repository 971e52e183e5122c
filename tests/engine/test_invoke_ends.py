"""Promises of invoke when either side ends otherwise: timeouts, cancelled parents and children, other services."""

import asyncio
import json
from typing import Any

import pytest
from pydantic import BaseModel

from celeryflows import Flows, InvokeError, InvokeTimeout, RunCancelled, Status
from celeryflows.console import runs as desk
from celeryflows.engine.turn import take_turn
from celeryflows.model.runs import Delivery
from celeryflows.model.steps import Kind
from celeryflows.testing import FlowsTester
from tests.engine.world import Process, World, statuses


@pytest.fixture
def sleeper(flows: Flows) -> Any:
    """A flow that takes a day."""

    @flows.flow(name="child")
    def child(ctx: Any) -> str:
        ctx.step.sleep("nap", "1 day")
        return "rested"

    return child


def told(call: Any) -> list[str]:
    try:
        return ["value", call()]
    except InvokeError as error:
        return [type(error).__name__, error.name, error.message]


# --- timeouts


def test_at_the_timeout_the_parent_goes_on_and_so_does_the_child(
    flows: Flows, flows_tester: FlowsTester, sleeper: Any
) -> None:
    parent = flows.flow(name="parent")(lambda ctx: told(lambda: ctx.step.invoke("c", sleeper, timeout="1h")))
    run = flows_tester.start(parent)
    flows_tester.advance("1h")

    assert run.output == ["InvokeTimeout", "InvokeTimeout", "child has not ended within 1 hour; the run goes on"]
    (child,) = flows_tester.runs(sleeper)
    assert child.status == Status.SUSPENDED
    flows_tester.advance("1 day")
    assert child.output == "rested"
    assert flows_tester.runs(parent)[0].output == run.output


def test_a_child_that_ends_after_the_timeout_changes_nothing_in_later_turns(
    flows: Flows, flows_tester: FlowsTester, sleeper: Any
) -> None:
    @flows.flow(name="parent")
    def parent(ctx: Any) -> Any:
        found = told(lambda: ctx.step.invoke("c", sleeper, timeout="1h"))
        ctx.step.sleep("longer", "3 days")
        return found[0]

    run = flows_tester.start(parent)
    flows_tester.advance("4 days")

    assert run.output == InvokeTimeout.__name__


def test_a_timeout_in_one_branch_leaves_the_others(flows: Flows, flows_tester: FlowsTester, sleeper: Any) -> None:
    @flows.flow(name="parent")
    async def parent(ctx: Any) -> Any:
        found = await asyncio.gather(
            ctx.step.invoke("short", sleeper, timeout="1h"), ctx.step.invoke("long", sleeper), return_exceptions=True
        )
        return [type(found[0]).__name__, found[1]]

    run = flows_tester.start(parent)
    flows_tester.advance("1 day")

    assert run.output == ["InvokeTimeout", "rested"]


# --- cancelled


def test_a_cancelled_child_is_an_invoke_error_with_the_reason(
    flows: Flows, flows_tester: FlowsTester, sleeper: Any
) -> None:
    run = flows_tester.start(flows.flow(name="parent")(lambda ctx: told(lambda: ctx.step.invoke("c", sleeper))))
    (child,) = flows_tester.runs(sleeper)
    child.cancel("out of stock")
    flows_tester.advance("0s")

    assert run.output == ["InvokeError", "RunCancelled", "out of stock"]


def test_a_skipped_child_is_an_invoke_error_with_the_reason(
    flows: Flows, flows_tester: FlowsTester, sleeper: Any
) -> None:
    parent = flows.flow(name="parent")(lambda ctx: told(lambda: ctx.step.invoke("c", sleeper)))
    # The store learns of the flows when something is done.
    flows_tester.advance("0s")
    flows.pause("child")

    error, name, reason = flows_tester.start(parent).output

    assert (error, name) == ("InvokeError", "RunCancelled")
    assert "paused" in reason
    assert [child.status for child in flows_tester.runs(sleeper)] == [Status.SKIPPED]


def test_the_child_of_a_cancelled_parent_goes_on(flows: Flows, flows_tester: FlowsTester, sleeper: Any) -> None:
    run = flows_tester.start(flows.flow(name="parent")(lambda ctx: ctx.step.invoke("c", sleeper)))
    run.cancel()
    flows_tester.advance("1 day")

    (child,) = flows_tester.runs(sleeper)
    assert child.output == "rested"
    with pytest.raises(RunCancelled):
        run.get(timeout=0)


def test_children_are_cancelled_with_the_parent_when_asked_and_theirs_too(
    flows: Flows, flows_tester: FlowsTester, sleeper: Any
) -> None:
    def bound(ctx: Any, flow: str) -> Any:
        return ctx.step.using(cancel_with_parent=True).invoke("c", flow)

    flows.flow(name="middle")(lambda ctx: bound(ctx, "child"))
    run = flows_tester.start(flows.flow(name="parent")(lambda ctx: bound(ctx, "middle")))
    (middle,) = flows_tester.runs("middle")
    assert run.cancel("enough")

    (child,) = flows_tester.runs(sleeper)
    assert statuses([run, middle, child]) == [Status.CANCELLED] * 3
    assert middle.reason == f"cancelled with its parent {run.id}"
    assert child.reason == f"cancelled with its parent {middle.id}"


def test_a_child_that_has_ended_is_left_when_its_parent_is_cancelled(flows: Flows, flows_tester: FlowsTester) -> None:
    flows.flow(name="quick")(lambda ctx: 1)

    @flows.flow(name="parent")
    def parent(ctx: Any) -> None:
        ctx.step.using(cancel_with_parent=True).invoke("c", "quick")
        ctx.step.sleep("nap", "1h")

    run = flows_tester.start(parent)
    assert run.cancel()
    assert flows_tester.runs("quick")[0].output == 1


def test_a_child_that_recovery_gives_up_answers_its_parent(flows: Flows, flows_tester: FlowsTester) -> None:
    child = flows.flow(name="child", retries=20)(lambda ctx: ctx.step.run("dies", int))
    parent = flows.flow(name="parent")(lambda ctx: told(lambda: ctx.step.invoke("c", child)))
    flows_tester.crash_in("dies", times=10)

    run = flows_tester.start(parent)

    assert run.output == ["InvokeError", "WorkerLost", "its worker died 10 times at the same point of the handler"]


@pytest.mark.parametrize(("value", "output"), [({"x": 1}, ["value", 1]), ({"y": 1}, ["InvokeError", "InvalidOutput"])])
def test_an_output_type_is_what_the_childs_value_is_read_as(
    flows: Flows, flows_tester: FlowsTester, value: Any, output: Any
) -> None:
    class Point(BaseModel):
        x: int

    flows.flow(name="child")(lambda ctx: value)
    parent = flows.flow(name="parent")(
        lambda ctx: told(lambda: ctx.step.using(output_type=Point).invoke("c", "child").x)[:2]
    )

    assert flows_tester.start(parent).output == output


# --- crashes by the kit, stubs


def test_a_parent_that_dies_right_after_it_invoked_goes_on_with_the_same_child(
    flows: Flows, flows_tester: FlowsTester, sleeper: Any
) -> None:
    flows_tester.crash_after("c")
    run = flows_tester.start(flows.flow(name="parent")(lambda ctx: ctx.step.invoke("c", sleeper)))
    flows_tester.advance("1 day")

    assert run.output == "rested"
    assert len(flows_tester.runs(sleeper)) == 1


@pytest.mark.parametrize(
    ("stub", "output"),
    [
        ({"paid": True}, ["value", {"paid": True}]),
        (lambda data: data["n"] + 1, ["value", 2]),
        (ValueError("refused"), ["InvokeError", "ValueError", "refused"]),
    ],
)
def test_a_stub_stands_in_place_of_a_flow_that_need_not_be_there(
    flows: Flows, flows_tester: FlowsTester, stub: Any, output: Any
) -> None:
    parent = flows.flow(name="parent")(lambda ctx: told(lambda: ctx.step.invoke("c", "elsewhere", {"n": 1})))

    run = flows_tester.start(parent, steps={"c": stub})

    assert run.output == output
    assert flows_tester.calls("c") == 1


# --- other services, history


def drained(world: World, *others: Process) -> list[Delivery]:
    """Send an order, and take each turn in a process that has the flow's code; the messages."""
    world.flows.send("order/placed")
    sent = []
    while world.broker.waiting:
        sent.append(world.broker.waiting.popleft())
        mine = next(process for process in (world, *others) if sent[-1].flow in process.runtime.flows)
        take_turn(mine.runtime, sent[-1].run_id)
    return sent


def test_a_flow_of_another_service_that_only_the_store_knows_is_invoked(world: World) -> None:
    other = world.process("billing")
    other.flow(name="bill", version="7", queue="money")(lambda ctx: ctx.event.data["n"] * 2)
    other.start_worker()
    world.flow(name="order", trigger="order/placed")(lambda ctx: ctx.step.invoke("bill", "bill", {"n": 3}))
    world.start_worker()

    sent = drained(world, other)

    assert [message.flow for message in sent] == ["order", "bill", "order"]
    # The worker that has its code may serve no other queue.
    assert json.loads(sent[1].message or "{}") == {"queue": "money"}
    assert world.only_run("order").output == 6
    assert desk.run(world.runtime, world.only_run("bill").id).run.version == "7"


def test_a_rerun_keeps_the_values_and_errors_of_invokes(flows: Flows, flows_tester: FlowsTester, sleeper: Any) -> None:
    @flows.flow(name="parent")
    def parent(ctx: Any) -> Any:
        value = ctx.step.invoke("c", sleeper)
        late = told(lambda: ctx.step.invoke("d", sleeper, timeout="1h"))[0]
        return [value, late, ctx.step.run("last", int)]

    run = flows_tester.start(parent)
    flows_tester.advance("3 days")
    again = run.rerun(from_step="last")
    flows_tester.advance("0s")

    assert again.output == run.output == ["rested", "InvokeTimeout", 0]
    assert len(flows_tester.runs(sleeper)) == 2


def test_parent_and_child_are_linked_in_history(flows: Flows, flows_tester: FlowsTester, sleeper: Any) -> None:
    run = flows_tester.start(flows.flow(name="parent")(lambda ctx: ctx.step.invoke("c", sleeper)))
    (child,) = flows_tester.runs(sleeper)

    seen = desk.run(flows.runtime, run.id).steps[0]
    assert (seen.kind, seen.standing, seen.child) == (Kind.INVOKE, "waiting", child.id)
    below = desk.run(flows.runtime, child.id).run
    assert (below.parent, below.parent_key, child.parent) == (run.id, "c", run.id)
    flows_tester.advance("1 day")
    seen = desk.run(flows.runtime, run.id).steps[0]
    assert (seen.standing, seen.value, seen.child) == ("done", "rested", child.id)
