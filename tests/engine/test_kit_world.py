"""The test kit's world: a clock that the test turns, and whatever a flow asks of its Flows reaches it."""

import asyncio
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest
from celery import Celery

from celeryflows import Event, Flows, FlowsError, OnCron, Status
from celeryflows.testing import FlowsTester

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def test_it_starts_at_the_real_time_and_stands_still(flows):
    before = datetime.now(UTC)
    with FlowsTester(flows) as tester:
        assert before <= tester.now <= datetime.now(UTC)
        assert tester.now == tester.now


def test_it_starts_where_it_is_told(flows):
    with FlowsTester(flows, at=NEW_YEAR) as tester:
        tester.advance(timedelta(days=31))
        assert tester.now == datetime(2026, 2, 1, tzinfo=UTC)


def test_what_is_due_runs_in_order_at_its_own_time(flows):
    ran = []

    @flows.flow
    def flow(ctx):
        hours = ctx.event.data["hours"]
        ctx.step.sleep("rest", f"{hours}h")
        ran.append((hours, (tester.now - NEW_YEAR) / timedelta(hours=1)))

    with FlowsTester(flows, at=NEW_YEAR) as tester:
        for hours in (5, 1, 3):
            tester.start(flow, hours=hours)
        tester.advance("1 day")

    assert ran == [(1, 1), (3, 3), (5, 5)]


def test_crons_fire_on_the_way(flows):
    flows.flow(name="nightly", trigger=OnCron("0 3 * * *"))(lambda ctx: ctx.event.ts.isoformat())

    with FlowsTester(flows, at=NEW_YEAR) as tester:
        assert tester.runs() == []
        tester.advance("3 days")
        assert [run.output for run in tester.runs("nightly")] == [f"2026-01-0{day}T03:00:00+00:00" for day in (1, 2, 3)]


def test_nothing_due_is_run_by_an_advance_of_nothing(flows, flows_tester):
    flow = flows.flow(name="f", trigger="order/paid")(lambda ctx: 1)
    flows.send("order/paid")
    (run,) = flows_tester.runs(flow)
    assert run.status == Status.QUEUED
    flows_tester.advance("0s")

    assert run.output == 1


def test_too_much_on_the_way_is_told(flows, flows_tester):
    flows.flow(name="often", trigger=OnCron("* * * * *"))(lambda ctx: 1)

    with pytest.raises(FlowsError, match="more than 30 things are due on the way; advance by smaller pieces"):
        flows_tester.advance("1h", most=30)
    assert len(flows_tester.runs("often")) == 30


def test_a_flow_that_starts_itself_for_ever_is_told(flows, flows_tester, monkeypatch):
    monkeypatch.setattr("celeryflows.scheduler.inline.TURNS_BOUND", 50)
    flows.flow(name="f", trigger="a/b")(lambda ctx: ctx.step.send_event("again", Event("a/b")))

    with pytest.raises(FlowsError, match="does a flow start itself"):
        flows_tester.send("a/b")


def test_a_flow_cannot_turn_the_clock(flows, flows_tester):
    flow = flows.flow(name="f", retries=0)(lambda ctx: flows_tester.advance("1h"))

    assert "ctx.step.sleep" in flows_tester.start(flow).error.message


def test_sends_and_delays_inside_steps_and_threads(flows, flows_tester):
    heard = flows.flow(name="hears", trigger="step/sent")(lambda ctx: ctx.event.data["by"])

    def in_thread(work):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(10)

    @flows.flow
    def flow(ctx):
        ctx.step.run("send", lambda: flows.send("step/sent", {"by": "send"}))
        ctx.step.run("delay", lambda: heard.delay(by="delay").id)
        ctx.step.run("thread", in_thread, lambda: flows.send("step/sent", {"by": "thread"}))
        ctx.step.run("delay in thread", in_thread, lambda: heard.delay(by="delay in thread"))
        ctx.step.run("tester", lambda: flows_tester.send("step/sent", {"by": "tester"}))
        return flows.run(ctx.run_id).flow

    assert flows_tester.start(flow).output == flow.name
    assert {run.output for run in flows_tester.runs(heard)} == {
        "send",
        "delay",
        "thread",
        "delay in thread",
        "tester",
    }


def test_eager_mode_gives_way(app, flows):
    app.conf.task_always_eager = True
    heard = flows.flow(name="hears")(lambda ctx: 1)
    flow = flows.flow(name="f")(lambda ctx: ctx.step.run("delay", lambda: heard.delay().id))

    with FlowsTester(flows) as tester:
        run = tester.start(flow)
        assert [found.id for found in tester.runs(heard)] == [run.output]


def test_the_tester_may_be_used_from_many_threads(flows, flows_tester):
    flow = flows.flow(name="f", trigger="order/paid")(lambda ctx: ctx.step.run("n", lambda: ctx.event.data["n"]))
    outputs = []

    def work(n):
        outputs.append(flows_tester.start(flow, n=n).output)
        flows_tester.send("order/paid", {"n": 100 + n})

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert sorted(outputs) == list(range(8))
    assert sorted(run.output for run in flows_tester.runs(flow)) == [*range(8), *range(100, 108)]


def test_afterwards_the_flows_are_as_before(flows):
    flow = flows.flow(name="f", trigger="order/paid")(lambda ctx: 1)
    with FlowsTester(flows) as outer:
        with FlowsTester(flows) as inner:
            flows.send("order/paid")
            assert (len(inner.runs()), len(outer.runs())) == (1, 0)
        flows.send("order/paid")
        assert [run.status for run in outer.runs(flow)] == [Status.QUEUED]
        inside = flows.runtime
    assert flows._wiring.current._runtime is None
    assert inside.store._engine is None


def test_an_async_test_may_run_async_flows(flows, flows_tester):
    @flows.flow
    async def flow(ctx):
        return await ctx.step.run("work", lambda: 1)

    async def test():
        return flows_tester.start(flow).output

    assert asyncio.run(test()) == 1


def test_without_flows_it_takes_those_of_the_current_app():
    app = Celery("current", broker="memory://", set_as_current=False)
    flow = Flows(app).flow(name="f")(lambda ctx: "the current app's")
    before = Celery("before", broker="memory://")
    app.set_current()
    try:
        with FlowsTester() as tester:
            assert tester.start(flow).output == "the current app's"
    finally:
        before.set_default()
        before.set_current()


def test_a_flow_may_wait_for_the_end_of_another_at_the_same_instant(flows, flows_tester):
    @flows.flow(name="child")
    def child(ctx):
        return "grown up"

    @flows.flow(name="parent")
    def parent(ctx):
        ended = ctx.step.wait_for_event(
            "child", event="flows/run.completed", if_exp="async.data.flow == 'child'", timeout="1h"
        )
        return ended.data["output"]

    flows_tester.start(child)
    run = flows_tester.start(parent)
    flows_tester.start(child)

    assert run.output == "grown up"


def test_any_project_has_the_fixture_and_needs_no_more_than_its_current_app(tmp_path):
    (tmp_path / "shop.py").write_text(
        "from celery import Celery\nfrom celeryflows import Flows\n"
        "app = Celery('shop', broker='memory://')\nflows = Flows(app)\n"
        "@flows.flow\ndef greet(ctx):\n    return 'hello'\n"
    )
    (tmp_path / "test_shop.py").write_text(
        "from shop import greet\n"
        "def test_greets(flows_tester):\n    assert flows_tester.start(greet).output == 'hello'\n"
    )

    options = ["-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "-W", "error", str(tmp_path)]
    command = [sys.executable, "-m", "pytest", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
