"""Runs that an event cancels: which, when, and what is left of them. On both stores what depends on SQL."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from celeryflows import CancelOn, Event, Flows, Status
from celeryflows.testing import FlowsTester
from tests.engine.world import World

BY_ID = CancelOn("order/cancelled", match="data.order_id")


@pytest.fixture
def tester(flows: Flows) -> Any:
    with FlowsTester(flows) as tester:
        yield tester


def order(flows: Flows, **options: Any) -> Any:
    """A flow that sleeps for an hour between two steps."""

    @flows.flow(name="order", trigger="order/placed", **{"cancel_on": BY_ID, **options})
    def handler(ctx: Any) -> str:
        ctx.step.run("first", lambda: 1)
        ctx.step.sleep("nap", "1h")
        return str(ctx.step.run("second", lambda: "shipped"))

    return handler


def placed(order_id: object = 1, **more: Any) -> Event:
    return Event("order/placed", {"order_id": order_id, **more})


def cancelled(order_id: object = 1, **more: Any) -> Event:
    return Event("order/cancelled", {"order_id": order_id, **more})


def waits_of(world: Any, run_id: str) -> list[tuple[Any, ...]]:
    """A run's waits: key, state, event, problem."""
    with world.flows.runtime.store.connection() as connection:
        return connection.execute(
            "SELECT key, state, event_id, problem FROM flows_waits WHERE run_id = :run ORDER BY key", run=run_id
        )


# -- which runs


def test_an_event_cancels_the_run_whose_field_is_equal_and_no_other(flows: Flows, tester: FlowsTester) -> None:
    handler = order(flows)
    mine, other = (tester.start(handler, placed(n)) for n in (1, 2))
    [event] = tester.send(cancelled(1))
    assert (mine.status, other.status) == (Status.CANCELLED, Status.SUSPENDED)
    assert mine.reason == f"cancelled by event order/cancelled ({event})"
    tester.advance("2h")
    assert other.output == "shipped"
    assert tester.calls("second", mine) == 0


def test_without_match_and_condition_every_event_of_the_name_cancels(flows: Flows, tester: FlowsTester) -> None:
    run = tester.start(order(flows, cancel_on="order/cancelled"), placed())
    tester.send(Event("order/cancelled"))
    assert run.status == Status.CANCELLED


def test_a_condition_sees_the_runs_event_and_the_one_that_came(flows: Flows, tester: FlowsTester) -> None:
    rule = CancelOn("order/cancelled", if_exp="async.data.order_id == event.data.order_id && async.data.sure")
    run = tester.start(order(flows, cancel_on=[rule]), placed(7))
    tester.send([cancelled(7, sure=False), cancelled(8, sure=True)])
    assert run.status == Status.SUSPENDED
    tester.send(cancelled(7, sure=True))
    assert run.status == Status.CANCELLED


def test_a_condition_that_cannot_be_judged_does_not_cancel_and_shows_why(world: World) -> None:
    order(world.flows, cancel_on=CancelOn("order/cancelled", if_exp="async.data.amount > 10"))
    world.send(placed())
    world.send(Event("order/cancelled", {"amount": "much"}))
    run = world.only_run()
    assert run.status == Status.SUSPENDED
    [(_, state, _, problem)] = waits_of(world, run.id)
    assert (state, "types do not fit" in problem) == ("open", True)


def test_the_trigger_itself_never_cancels_but_the_next_of_its_kind_does(flows: Flows, tester: FlowsTester) -> None:
    same = CancelOn("order/placed", match="data.order_id")
    first = tester.start(order(flows, cancel_on=same), placed(1))
    assert first.status == Status.SUSPENDED
    second = tester.start("order", placed(1))
    assert (first.status, second.status) == (Status.CANCELLED, Status.SUSPENDED)


def test_an_event_before_the_run_never_cancels(flows: Flows, tester: FlowsTester) -> None:
    handler = order(flows)
    tester.send(cancelled(1))
    assert tester.start(handler, placed(1)).status == Status.SUSPENDED


def test_in_one_list_what_comes_later_cancels_and_what_comes_first_does_not(flows: Flows, tester: FlowsTester) -> None:
    order(flows)
    tester.send([cancelled(1), placed(1), placed(2), cancelled(2)])
    kept, gone = tester.runs("order")
    assert (kept.status, gone.status) == (Status.SUSPENDED, Status.CANCELLED)
    assert tester.calls("first", gone) == 0


def test_a_run_without_the_field_is_cancelled_by_nothing_and_shows_why(world: World) -> None:
    order(world.flows)
    world.send([Event("order/placed", {}), Event("order/placed", {"order_id": None})])
    world.send([Event("order/cancelled", {}), Event("order/cancelled", {"order_id": None})])
    for run in world.runs():
        assert run.status == Status.SUSPENDED
        [(key, state, event, problem)] = waits_of(world, run.id)
        assert (key, state, event) == ("cancel_on:00", "closed", None)
        assert "null or missing" in problem


def test_after_the_timeout_the_event_comes_too_late(flows: Flows, tester: FlowsTester) -> None:
    soon = CancelOn("order/cancelled", match="data.order_id", timeout="10m")
    handler = order(flows, cancel_on=soon)
    early, late = (tester.start(handler, placed(n)) for n in (1, 2))
    tester.advance("9m 59s")
    tester.send(cancelled(1))
    tester.advance("1s")
    tester.send(cancelled(2))
    assert (early.status, late.status) == (Status.CANCELLED, Status.SUSPENDED)


def test_any_of_five_events_cancels(flows: Flows, tester: FlowsTester) -> None:
    names = [f"order/gone{n}" for n in range(5)]
    rules = [CancelOn(name, match="data.order_id") for name in names]
    handler = order(flows, cancel_on=rules)
    runs = [tester.start(handler, placed(n)) for n in range(5)]
    for n, name in enumerate(names):
        tester.send(name, {"order_id": n})
        assert [run.status for run in runs[: n + 1]] == [Status.CANCELLED] * (n + 1)


# -- in which state


def test_a_waiting_run_is_cancelled_and_its_wait_closed(world: World) -> None:
    @world.flow(trigger="order/placed", cancel_on=BY_ID)
    def handler(ctx: Any) -> Any:
        return ctx.step.wait_for_event("paid", event="order/paid", match="data.order_id", timeout="1h")

    world.send(placed())
    [event] = world.send(cancelled())
    run = world.only_run()
    assert run.status == Status.CANCELLED
    assert waits_of(world, run.id) == [("cancel_on:00", "answered", event, None), ("paid", "closed", None, None)]
    world.send("order/paid", {"order_id": 1})
    assert run.status == Status.CANCELLED


def test_an_event_that_answers_a_wait_and_cancels_cancels(world: World) -> None:
    @world.flow(trigger="order/placed", cancel_on=BY_ID)
    def handler(ctx: Any) -> str:
        ctx.step.wait_for_event("it", event="order/cancelled", match="data.order_id", timeout="1h")
        return "went on"

    world.send(placed())
    world.send(cancelled())
    assert world.only_run().status == Status.CANCELLED


def test_a_queued_run_never_starts(world: World) -> None:
    order(world.flows)
    world.flows.send(placed())
    world.flows.send(cancelled())
    world.drain()
    assert (world.only_run().status, world.only_run().started_at) == (Status.CANCELLED, None)


def test_a_scheduled_run_never_starts(flows: Flows, tester: FlowsTester) -> None:
    run = tester.start(order(flows), Event("order/placed", {"order_id": 1}, ts=tester.now + timedelta(hours=1)))
    assert run.status == Status.SCHEDULED
    tester.send(cancelled())
    tester.advance("2h")
    assert (run.status, run.started_at) == (Status.CANCELLED, None)


@pytest.mark.parametrize("how", ["run", "async"])
def test_a_running_run_stops_at_its_next_boundary_and_keeps_the_late_value(
    flows: Flows, tester: FlowsTester, how: str
) -> None:
    def first() -> str:
        tester.send(cancelled())
        return "charged"

    if how == "run":

        @flows.flow(name="busy", trigger="order/placed", cancel_on=BY_ID)
        def busy(ctx: Any) -> None:
            ctx.step.run("first", first)
            ctx.step.run("second", lambda: 2)

    else:

        @flows.flow(name="busy", trigger="order/placed", cancel_on=BY_ID)
        async def busy_async(ctx: Any) -> None:
            await ctx.step.run("first", first)
            await ctx.step.run("second", lambda: 2)

    run = tester.start("busy", placed())
    assert run.status == Status.CANCELLED
    assert [(step.id, step.state, step.value) for step in run.steps] == [("first", "late", '"charged"')]
    assert tester.calls("second") == 0


def test_a_run_whose_own_event_cancels_it_has_sent_that_event(flows: Flows, tester: FlowsTester) -> None:
    @flows.flow(trigger="order/placed", cancel_on=BY_ID)
    def quitter(ctx: Any) -> None:
        ctx.step.send_event("give up", cancelled())
        ctx.step.run("second", lambda: 2)

    run = tester.start(quitter, placed())
    assert run.status == Status.CANCELLED
    assert [(step.id, step.state) for step in run.steps] == [("give up", "done")]
    assert tester.calls("second") == 0


def test_an_ended_run_is_left_as_it_is(flows: Flows, tester: FlowsTester) -> None:
    run = tester.start(order(flows), placed())
    tester.advance("1h")
    tester.send(cancelled())
    assert (run.status, run.reason) == (Status.COMPLETED, None)


# -- how runs come to be


STARTS: dict[str, Callable[[Any, FlowsTester], object]] = {
    "delay": lambda task, _: task.delay(order_id=1),
    "apply_async": lambda task, _: task.apply_async(kwargs={"order_id": 1}, countdown=30),
    "event": lambda _, tester: tester.send(placed()),
}


@pytest.mark.parametrize("how", STARTS)
def test_it_holds_however_the_run_was_started(flows: Flows, tester: FlowsTester, how: str) -> None:
    task = order(flows)
    tester.advance("0s")
    STARTS[how](task, tester)
    tester.send(cancelled())
    [run] = tester.runs("order")
    assert run.status == Status.CANCELLED


def test_it_holds_for_a_process_that_only_sends(world: World) -> None:
    order(world.flows)
    world.start_worker()
    sender = world.process()
    sender.flows.send(placed())
    sender.flows.send(cancelled())
    world.drain()
    assert world.only_run().status == Status.CANCELLED


def test_a_call_by_a_process_that_nobody_registered_is_found_too(world: World) -> None:
    task = order(world.flows)
    task.delay(order_id=1)
    world.process().flows.send(cancelled())
    assert world.only_run().status == Status.CANCELLED


def test_no_step_can_bear_the_key_of_a_cancel(flows: Flows, tester: FlowsTester) -> None:
    rules = [CancelOn(f"order/gone{n}") for n in range(3)]

    @flows.flow(cancel_on=rules)
    def handler(ctx: Any) -> list[Any]:
        found = [ctx.step.wait_for_event("cancel_on", event="a/b", timeout="1s") for _ in range(4)]
        return [*found, ctx.step.wait_for_event(":0", event="a/b", timeout="1s")]

    run = tester.start(handler)
    tester.advance("10s")
    assert run.output == [None] * 5


def test_of_a_cancelled_run_no_failure_handler_is_called_and_its_cancelling_is_told_once(
    flows: Flows, tester: FlowsTester
) -> None:
    told: list[Any] = []
    failures: list[Any] = []
    order(flows, on_failure=lambda ctx: failures.append(ctx))

    @flows.flow(trigger="flows/run.cancelled")
    def watcher(ctx: Any) -> None:
        told.append(ctx.event.data)

    run = tester.start("order", placed())
    tester.send([cancelled(), cancelled()])
    tester.send(cancelled())
    run.cancel()
    tester.advance("2h")
    [one] = told
    assert (one["run_id"], one["flow"], one["reason"]) == (run.id, "order", run.reason)
    assert one["event"]["data"] == {"order_id": 1}
    assert failures == []
