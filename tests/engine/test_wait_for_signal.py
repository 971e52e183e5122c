"""Promises of signals: one wakes the one run that waits for its name."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from celeryflows import BoundExceeded, Flows, InvalidEvent, NotStorable, Signal, Status
from celeryflows.console import runs as desk
from celeryflows.testing import FlowsTester


@pytest.fixture
def waits(flows: Flows) -> Any:
    """A flow that waits for the signal that its event names."""

    @flows.flow(name="waits")
    def waits(ctx: Any) -> Any:
        words = {"name": "go", "timeout": "1h", **ctx.event.data}
        return shown(ctx.step.wait_for_signal("s", **words))

    return waits


def shown(signal: Signal | None) -> Any:
    return None if signal is None else [signal.name, signal.data]


@pytest.mark.parametrize("data", [None, 0, {"by": "Ann"}, [1, "a"], datetime(2026, 1, 1, tzinfo=UTC)])
def test_a_signal_reaches_its_waiter_with_its_data(
    flows: Flows, flows_tester: FlowsTester, waits: Any, data: Any
) -> None:
    run = flows_tester.start(waits)

    assert flows_tester.signal("go", data) == run.id
    assert run.output == ["go", data]


def test_a_signal_that_nobody_waits_for_is_not_kept(flows: Flows, flows_tester: FlowsTester, waits: Any) -> None:
    assert flows_tester.signal("go", 1) is None
    run = flows_tester.start(waits)

    assert run.status == Status.SUSPENDED
    assert flows_tester.signal("other") is None
    assert flows_tester.signal("go", 2) == run.id
    assert flows_tester.signal("go", 3) is None
    assert run.output == ["go", 2]


def test_at_the_timeout_the_waiter_gets_none(flows: Flows, flows_tester: FlowsTester, waits: Any) -> None:
    run = flows_tester.start(waits)
    flows_tester.advance("1h")

    assert (run.status, run.output) == (Status.COMPLETED, None)
    assert flows_tester.signal("go") is None


def test_a_signal_and_an_event_of_one_name_are_apart(flows: Flows, flows_tester: FlowsTester, waits: Any) -> None:
    @flows.flow(name="event")
    def event(ctx: Any) -> Any:
        return ctx.step.wait_for_event("e", event="go", timeout="1h").data

    signalled, sent = flows_tester.start(waits), flows_tester.start(event)
    flows_tester.send("go", {"n": 1})
    assert (signalled.status, sent.output) == (Status.SUSPENDED, {"n": 1})
    assert flows_tester.signal("go", {"n": 2}) == signalled.id


def test_a_second_waiter_is_refused_by_an_error_that_names_the_first(
    flows: Flows, flows_tester: FlowsTester, waits: Any
) -> None:
    first, second = flows_tester.start(waits), flows_tester.start(waits)

    assert second.error.name == "SignalTaken"
    assert f"run {first.id} waits for the signal 'go' already" in second.error.message
    assert flows_tester.signal("go", 1) == first.id


def test_the_refusal_can_be_caught_and_is_remembered(flows: Flows, flows_tester: FlowsTester, waits: Any) -> None:
    first = flows_tester.start(waits)

    @flows.flow(name="second")
    def second(ctx: Any) -> Any:
        try:
            ctx.step.wait_for_signal("s", "go", timeout="1h")
        except Exception as error:
            said = type(error).__name__
            ctx.logger.warning("refused")
        ctx.step.sleep("nap", "2h")
        return said

    run = flows_tester.start(second)
    flows_tester.signal("go")
    flows_tester.advance("2h")

    assert (first.output, run.output) == (["go", None], "StepError")


def test_on_request_the_second_takes_the_place_and_the_first_gets_none(
    flows: Flows, flows_tester: FlowsTester, waits: Any
) -> None:
    first = flows_tester.start(waits)
    second = flows_tester.start(waits, on_conflict="replace")

    assert (first.status, first.output) == (Status.COMPLETED, None)
    assert desk.run(flows.runtime, first.id).steps[0].standing == "replaced"
    assert flows_tester.signal("go", 1) == second.id
    assert second.output == ["go", 1]


def test_a_name_is_free_again_when_its_waiter_has_ended(flows: Flows, flows_tester: FlowsTester, waits: Any) -> None:
    flows_tester.start(waits).cancel()
    timed_out = flows_tester.start(waits)
    flows_tester.advance("1h")
    last = flows_tester.start(waits)

    assert timed_out.status == Status.COMPLETED
    assert flows_tester.signal("go") == last.id


def test_async_flows_wait_for_several_signals_at_once(flows: Flows, flows_tester: FlowsTester) -> None:
    @flows.flow(name="both")
    async def both(ctx: Any) -> Any:
        found = await asyncio.gather(*(ctx.step.wait_for_signal(n, n, timeout="1h") for n in "abc"))
        return [shown(one) for one in found]

    run = flows_tester.start(both)
    assert flows_tester.signal("b", 2) == run.id
    assert flows_tester.signal("a", 1) == run.id
    flows_tester.advance("1h")

    assert run.output == [["a", 1], ["b", 2], None]


@pytest.mark.parametrize(("on_conflict", "first"), [("fail", ["go", 1]), ("replace", None)])
def test_a_run_that_waits_twice_for_one_name_meets_itself(
    flows: Flows, flows_tester: FlowsTester, on_conflict: str, first: Any
) -> None:
    @flows.flow(name="twice")
    async def twice(ctx: Any) -> Any:
        waits = [ctx.step.wait_for_signal(id, "go", timeout="1h", on_conflict=on_conflict) for id in ("a", "b")]
        found = await asyncio.gather(*waits, return_exceptions=True)
        return [type(one).__name__ if isinstance(one, Exception) else shown(one) for one in found]

    run = flows_tester.start(twice)
    assert flows_tester.signal("go", 1) == run.id

    assert run.output == [first, "StepError" if on_conflict == "fail" else ["go", 1]]


def test_a_worker_that_dies_right_after_it_armed_loses_no_signal(
    flows: Flows, flows_tester: FlowsTester, waits: Any
) -> None:
    flows_tester.crash_after("s")
    run = flows_tester.start(waits)
    flows_tester.signal("go", 1)

    assert run.output == ["go", 1]


def test_signals_are_sent_from_steps_and_from_async_code(flows: Flows, flows_tester: FlowsTester, waits: Any) -> None:
    first = flows_tester.start(waits)
    sender = flows.flow(name="sender")(lambda ctx: ctx.step.run("send", lambda: flows.signal("go", "from a step")))
    assert flows_tester.start(sender).output == first.id
    assert first.output == ["go", "from a step"]

    second = flows_tester.start(waits)
    assert asyncio.run(flows.asignal("go", "from a view")) == second.id
    flows_tester.advance("0s")
    assert second.output == ["go", "from a view"]


@pytest.mark.parametrize("name", ["", " go", "go*", "flows/run.completed", "Flows/x", "a\0b", "x" * 257])
def test_names_that_no_event_may_have_are_refused(
    flows: Flows, flows_tester: FlowsTester, waits: Any, name: str
) -> None:
    with pytest.raises(InvalidEvent, match="signal name"):
        flows.signal(name)

    assert flows_tester.start(waits, name=name).error.name == "InvalidEvent"


def test_data_that_cannot_be_stored_or_is_too_big_is_refused(
    flows: Flows, flows_tester: FlowsTester, waits: Any
) -> None:
    run = flows_tester.start(waits)
    with pytest.raises(NotStorable, match=r"\$\.data"):
        flows.signal("go", object())
    with pytest.raises(BoundExceeded, match="flows_max_event_bytes"):
        flows.signal("go", "x" * 600_000)

    assert run.status == Status.SUSPENDED


def test_a_wrong_word_ends_the_run(flows: Flows, flows_tester: FlowsTester, waits: Any) -> None:
    run = flows_tester.start(waits, on_conflict="wait")

    assert (run.status, run.error.name) == (Status.FAILED, "StepMisuse")


def test_a_wait_for_a_signal_is_shown(flows: Flows, flows_tester: FlowsTester, waits: Any) -> None:
    run = flows_tester.start(waits)
    step = desk.run(flows.runtime, run.id).steps[0]
    assert (step.kind, step.standing, step.awaits, step.child) == ("signal", "waiting", "go", None)
    flows_tester.signal("go", 1)
    step = desk.run(flows.runtime, run.id).steps[0]
    assert (step.standing, step.value) == ("done", {"name": "go", "data": 1})
