"""Signals: what happens is told after its commit, with the flow's name as sender, and no receiver does harm."""

import dataclasses
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta

import pytest

from celeryflows import Event, Flows, Status, signals
from tests.engine.world import World, store_at

ABOUT_RUNS = ["queued", "started", "suspended", "completed", "failed", "cancelled", "skipped"]


class Ear:
    """Hears signals, in order."""

    def __init__(self) -> None:
        self.heard = []

    @contextmanager
    def on(self, *names, sender=None) -> Iterator["Ear"]:
        """Listen to these signals."""
        with ExitStack() as stack:
            for name in names:
                stack.enter_context(self._on(getattr(signals, name), name, sender))
            yield self

    @contextmanager
    def _on(self, signal, name, sender) -> Iterator[None]:
        def receive(sender, **news) -> None:
            ((_, value),) = news.items()
            self.heard.append((name, sender, value))

        kept = {} if sender is None else {"sender": sender}
        signal.connect(receive, weak=False, **kept)
        try:
            yield
        finally:
            signal.disconnect(receive)

    @property
    def names(self) -> list[str]:
        """What was heard."""
        return [name for name, _, _ in self.heard]

    def one(self, name):
        """The value of the one signal of the name."""
        (value,) = [value for heard, _, value in self.heard if heard == name]
        return value


def test_a_runs_life_is_told_in_order_with_the_flows_name_as_sender(flows, flows_tester):
    @flows.flow(name="shop.order", version="v2")
    def order(ctx):
        ctx.step.run("charge", lambda: 7)
        ctx.step.sleep("settle", "1h")
        return "paid"

    with Ear().on("event_received", *(f"run_{name}" for name in ABOUT_RUNS), "step_started", "step_completed") as ear:
        run = flows_tester.start(order, {"total": 7})
        flows_tester.advance("1h")

    assert ear.names == [
        "event_received",
        "run_queued",
        "run_started",
        "step_started",
        "step_completed",
        "run_suspended",
        "run_completed",
    ]
    assert {sender for name, sender, _ in ear.heard if name != "event_received"} == {"shop.order"}
    done = ear.one("run_completed")
    assert (done.run_id, done.flow, done.version, done.turn) == (run.id, "shop.order", "v2", 2)
    assert (done.output, done.duration, done.error) == ("paid", timedelta(hours=1), None)
    assert ear.one("run_suspended").wake_at == flows_tester.now
    assert ear.one("step_completed").value == 7


def test_a_receiver_of_one_flow_hears_nothing_of_others(flows, flows_tester):
    flows.flow(name="shop.order", retries=0)(lambda ctx: 1 / 0)
    flows.flow(name="shop.other", retries=0)(lambda ctx: 1 / 0)

    with Ear().on("run_failed", sender="shop.order") as ear:
        flows_tester.start("shop.order")
        flows_tester.start("shop.other")

    assert ear.one("run_failed").error.name == "ZeroDivisionError"


def test_each_failed_attempt_of_a_step_is_told_once_and_the_last_one_has_no_further_try(flows, flows_tester):
    @flows.flow(name="f", retries=1)
    def flow(ctx):
        ctx.step.run("break", lambda: 1 / 0)

    with Ear().on("step_started", "step_failed", "run_failed") as ear:
        flows_tester.start(flow)
        retry_at = flows_tester.now + timedelta(seconds=1)
        flows_tester.advance("1m")

    failed = [value for name, _, value in ear.heard if name == "step_failed"]
    assert [(news.attempt, news.retry_at, news.error.name) for news in failed] == [
        (0, retry_at, "ZeroDivisionError"),
        (1, None, "ZeroDivisionError"),
    ]
    assert ear.names == ["step_started", "step_failed", "step_started", "step_failed", "run_failed"]


def test_each_failed_attempt_of_an_async_flows_step_is_told_once(flows, flows_tester):
    @flows.flow(name="f", retries=1)
    async def flow(ctx):
        await ctx.step.run("break", lambda: 1 / 0)

    with Ear().on("step_failed") as ear:
        flows_tester.start(flow)
        flows_tester.advance("1m")

    assert [news.attempt for _, _, news in ear.heard] == [0, 1]


def test_a_body_that_is_tried_again_is_suspended_with_its_error(flows, flows_tester):
    @flows.flow(name="f", retries=1)
    def flow(ctx):
        if ctx.attempt == 0:
            raise KeyError("first")
        return "second"

    with Ear().on("run_suspended", "run_completed") as ear:
        flows_tester.start(flow)
        flows_tester.advance("1m")

    assert (ear.one("run_suspended").error.name, ear.one("run_suspended").attempt) == ("KeyError", 0)
    assert (ear.one("run_completed").output, ear.one("run_completed").attempt) == ("second", 1)


def test_events_are_told_by_their_names_with_their_data(flows, flows_tester):
    with Ear().on("event_received", sender="order/placed") as ear:
        (event_id,) = flows_tester.send(Event("order/placed", {"total": 3}, id="o1"))
        flows_tester.send("order/paid")

    news = ear.one("event_received")
    assert (news.id, news.event.id, news.event.data) == (event_id, "o1", {"total": 3})


def test_a_duplicate_is_told_as_a_skipped_run_with_the_reason(flows, flows_tester):
    flows.flow(name="f", trigger="order/placed")(lambda ctx: None)
    flows_tester.send(Event("order/placed", id="o1"))

    with Ear().on("run_queued", "run_skipped") as ear:
        flows_tester.send(Event("order/placed", id="o1"))

    assert ear.names == ["run_skipped"]
    assert "'o1' has started run" in ear.one("run_skipped").reason


def test_a_cancelled_run_is_told_once(flows, flows_tester):
    @flows.flow(name="f")
    def flow(ctx):
        ctx.step.sleep("long", "1h")

    run = flows_tester.start(flow)
    with Ear().on("run_cancelled") as ear:
        run.cancel("changed our mind")
        run.cancel("again")

    assert (ear.one("run_cancelled").run_id, ear.one("run_cancelled").reason) == (run.id, "changed our mind")


def test_a_scheduled_run_is_queued_when_its_time_has_come_and_not_before(flows, flows_tester):
    flows.flow(name="f", trigger="order/placed")(lambda ctx: None)

    with Ear().on("run_queued") as ear:
        flows_tester.send(Event("order/placed", ts=flows_tester.now + timedelta(hours=1)))
        assert ear.heard == []
        flows_tester.advance("1h")

    assert ear.one("run_queued").flow == "f"


def test_the_same_call_made_twice_is_told_once(world: World):
    flow = world.flow(name="f")(lambda ctx: None)

    with Ear().on("event_received", "run_queued") as ear:
        flow.apply_async(task_id="mine")
        flow.apply_async(task_id="mine")

    assert ear.names == ["event_received", "run_queued"]


def test_a_run_that_loses_its_worker_again_and_again_is_told_as_failed(flows, flows_tester):
    @flows.flow(name="f", retries=20)
    def flow(ctx):
        ctx.step.run("poison", lambda: None)

    flows_tester.crash_in("poison", times=10)
    with Ear().on("run_failed", "step_completed") as ear:
        flows_tester.start(flow)

    assert ear.names == ["run_failed"]
    assert ear.one("run_failed").error.name == "WorkerLost"


def test_a_step_that_was_crashed_after_its_commit_is_not_told_twice(flows, flows_tester):
    @flows.flow(name="f")
    def flow(ctx):
        return ctx.step.run("charge", lambda: 1)

    flows_tester.crash_after("charge")
    with Ear().on("step_completed", "run_started", "run_completed") as ear:
        run = flows_tester.start(flow)

    assert run.status is Status.COMPLETED
    assert ear.names == ["run_started", "run_completed"], "the worker died before it could tell of its step"


def test_a_receiver_that_raises_is_logged_and_harms_neither_the_run_nor_other_receivers(flows, flows_tester, caplog):
    flow = flows.flow(name="f")(lambda ctx: ctx.step.run("charge", lambda: 1))

    def broken(sender, **_) -> None:
        raise RuntimeError("the receiver is broken")

    names = ("event_received", "run_queued", "run_started", "step_started", "step_completed", "run_completed")
    with ExitStack() as stack, Ear().on(*names) as ear, caplog.at_level(logging.ERROR, "celeryflows"):
        for name in names:
            stack.enter_context(getattr(signals, name).connected_to(broken))
        run = flows_tester.start(flow)

    assert (run.status, run.output, ear.names) == (Status.COMPLETED, 1, list(names))
    assert len([record for record in caplog.records if "a receiver of the signal" in record.message]) == len(names)


def test_what_is_told_is_committed_when_it_is_told(store_url):
    world = World(store_at(store_url))
    seen = []

    def look(sender, run) -> None:
        with world.store.connection() as connection:
            found = connection.runs.outcome(run.run_id)
            seen.append(found.status if found else None)

    try:
        world.flow(name="f", trigger="go")(lambda ctx: 1)
        world.start_worker()
        with ExitStack() as stack:
            for name in ("run_queued", "run_started", "run_completed"):
                stack.enter_context(getattr(signals, name).connected_to(look))
            world.send("go")
    finally:
        world.close()

    assert seen == ["queued", "running", "completed"]


def test_what_is_told_is_frozen(flows, flows_tester):
    flow = flows.flow(name="f")(lambda ctx: None)

    with Ear().on("run_completed") as ear:
        flows_tester.start(flow)

    with pytest.raises(dataclasses.FrozenInstanceError):
        ear.one("run_completed").flow = "another"


def test_where_nobody_listens_no_value_is_made(flows: Flows, flows_tester, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a value was made that nobody asked for")

    for name in ("RunNews", "StepNews", "EventNews", "tell"):
        monkeypatch.setattr(f"celeryflows.engine.telling.{name}", refuse)
    flow = flows.flow(name="f")(lambda ctx: ctx.step.run("charge", lambda: 1))

    assert flows_tester.start(flow).output == 1
