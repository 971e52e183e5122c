"""Promises of continue_as_new: a run ends, and another of its flow goes on with new data, once."""

import asyncio
from typing import Any

import pytest
from celery import Celery
from pydantic import BaseModel

from celeryflows import Event, Flows, RunCancelled, RunFailed, Status
from celeryflows.console import runs as desk
from celeryflows.testing import FlowsTester


@pytest.fixture
def count(flows: Flows) -> Any:
    """A flow that goes on as new `n` times, with a step in each run."""

    @flows.flow(name="count", trigger="count/asked")
    def count(ctx: Any) -> Any:
        n, seen = ctx.event.data["n"], ctx.event.data.get("seen", 0)
        seen = ctx.step.run("see", lambda: seen + 1)
        if n:
            ctx.continue_as_new({"n": n - 1, "seen": seen})
        return seen

    return count


def test_a_run_ends_and_its_successor_goes_on_with_the_data(
    flows: Flows, flows_tester: FlowsTester, count: Any
) -> None:
    run = flows_tester.start(count, Event("count/asked", {"n": 2}))

    first, second, last = flows_tester.runs(count)
    assert [one.status for one in (first, second, last)] == [Status.COMPLETED] * 3
    assert (first.continued_from, first.continued_as) == (None, second.id)
    assert (second.continued_from, second.continued_as) == (first.id, last.id)
    assert (last.continued_from, last.continued_as) == (second.id, None)
    assert [one.output for one in (first, second, last)] == [None, None, 3]
    assert last.events[0].name == "count/asked"
    assert run.id == first.id


def test_get_gives_the_value_of_the_last_run(flows: Flows, flows_tester: FlowsTester, count: Any) -> None:
    run = flows_tester.start(count, n=20)

    assert run.get(timeout=0) == 21
    assert all(one.get(timeout=0) == 21 for one in flows_tester.runs(count))


def test_get_raises_what_the_last_run_ended_with(flows: Flows, flows_tester: FlowsTester) -> None:
    @flows.flow(name="f", retries=0)
    def f(ctx: Any) -> None:
        if "last" not in ctx.event.data:
            ctx.continue_as_new({"last": True})
        raise ValueError("the end")

    run = flows_tester.start(f)
    with pytest.raises(RunFailed, match="the end") as raised:
        run.get(timeout=0)
    assert raised.value.run_id == run.continued_as


def test_cancelling_a_run_that_went_on_cancels_the_one_that_goes_on(flows: Flows, flows_tester: FlowsTester) -> None:
    @flows.flow(name="forever")
    def forever(ctx: Any) -> None:
        ctx.step.sleep("pause", "1h")
        ctx.continue_as_new({"n": ctx.event.data.get("n", 0) + 1})

    run = flows_tester.start(forever)
    flows_tester.advance("3h30m")
    assert len(flows_tester.runs(forever)) == 4

    assert run.cancel("enough")
    assert not run.cancel("enough")
    assert flows_tester.runs(forever)[-1].reason == "enough"
    with pytest.raises(RunCancelled, match="enough"):
        run.get(timeout=0)
    flows_tester.advance("1 day")
    assert len(flows_tester.runs(forever)) == 4


def test_the_handler_is_left_as_by_a_suspension(flows: Flows, flows_tester: FlowsTester) -> None:
    told = []

    @flows.flow(name="f")
    def f(ctx: Any) -> Any:
        if ctx.event.data:
            return "successor"
        try:
            ctx.continue_as_new({"n": 1})
        except Exception:
            told.append("caught")
        finally:
            told.append("finally")
            ctx.step.run("never", told.append, "a step")
        return "not this"

    assert flows_tester.start(f).get(timeout=0) == "successor"
    assert told == ["finally"]


def test_async_flows_await_it(flows: Flows, flows_tester: FlowsTester) -> None:
    @flows.flow(name="f")
    async def f(ctx: Any) -> Any:
        n = ctx.event.data.get("n", 0)
        if n == 3:
            return "end"

        async def go_on() -> None:
            await ctx.step.run("see", int)
            await ctx.continue_as_new({"n": n + 1})

        await asyncio.gather(go_on(), ctx.step.sleep("long", "1 day"), return_exceptions=True)
        return "not this"

    run = flows_tester.start(f)

    assert run.get(timeout=0) == "end"
    assert len(flows_tester.runs(f)) == 4


def test_a_registered_model_is_a_model_in_the_successor_too(flows: Flows, flows_tester: FlowsTester) -> None:
    class Page(BaseModel):
        number: int

    flows.event("page/asked", Page)

    @flows.flow(name="f", trigger="page/asked")
    def f(ctx: Any) -> int:
        if ctx.event.data.number < 3:
            ctx.continue_as_new(Page(number=ctx.event.data.number + 1))
        return int(ctx.event.data.number)

    assert flows_tester.start(f, Event("page/asked", {"number": 1})).get(timeout=0) == 3


def test_its_event_starts_and_answers_no_others(flows: Flows, flows_tester: FlowsTester, count: Any) -> None:
    heard = flows.flow(name="hears", trigger="count/asked")(lambda ctx: ctx.event.data["n"])
    flows_tester.send("count/asked", {"n": 3})

    assert [run.output for run in flows_tester.runs(heard)] == [3]
    assert len(flows_tester.runs(count)) == 4


def test_a_parent_is_answered_by_the_last_of_the_line(flows: Flows, flows_tester: FlowsTester, count: Any) -> None:
    parent = flows.flow(name="parent")(lambda ctx: ctx.step.invoke("c", count, {"n": 5}))

    run = flows_tester.start(parent)

    assert run.output == 6
    assert [one.parent for one in flows_tester.runs(count)] == [run.id] * 6


def test_a_flow_passes_the_bound_of_steps_by_going_on_as_new(app: Celery, flows: Flows) -> None:
    app.conf.flows_max_steps = 50

    @flows.flow(name="f")
    def f(ctx: Any) -> int:
        start = ctx.event.data.get("start", 0)
        for i in range(start, start + 50):
            ctx.step.run(f"step {i}", int)
        if start < 1_150:
            ctx.continue_as_new({"start": start + 50})
        return start + 50

    with FlowsTester(flows) as tester:
        assert tester.start(f).get(timeout=0) == 1_200
        assert sum(len(run.steps) for run in tester.runs(f)) == 1_200


# A deploy in one process: Celery keeps the first task of the name, the runs go by the newest flow.
@pytest.mark.filterwarnings("ignore::celery.exceptions.DuplicateTaskNameWarning")
def test_the_successor_is_of_the_newest_version(flows: Flows, flows_tester: FlowsTester) -> None:
    def f(ctx: Any) -> Any:
        if ctx.event.data:
            return ctx.version
        ctx.step.sleep("until tomorrow", "1 day")
        return ctx.continue_as_new({"n": 1})

    flows.flow(name="f", version="1")(f)
    run = flows_tester.start("f")
    flows.flow(name="f", version="2")(f)
    flows_tester.advance("1 day")

    assert run.get(timeout=0) == "2"


def test_inside_a_step_it_is_a_misuse(flows: Flows, flows_tester: FlowsTester) -> None:
    f = flows.flow(name="f")(lambda ctx: ctx.step.run("a", ctx.continue_as_new, {"n": 1}))

    run = flows_tester.start(f)

    assert (run.status, run.error.name) == (Status.FAILED, "StepMisuse")
    assert len(flows_tester.runs(f)) == 1


@pytest.mark.parametrize("data", [object(), Event("flows/mine"), {"a": "x" * 600_000}])
def test_data_that_cannot_be_sent_fails_the_run(flows: Flows, flows_tester: FlowsTester, data: Any) -> None:
    f = flows.flow(name="f")(lambda ctx: ctx.continue_as_new(data))

    assert flows_tester.start(f).error.name == "InvalidEvent"
    assert len(flows_tester.runs(f)) == 1


def test_a_line_of_runs_is_told_to_who_listens(flows: Flows, flows_tester: FlowsTester, count: Any) -> None:
    heard = []
    flows.flow(name="hears", trigger="flows/run.completed")(lambda ctx: heard.append(ctx.event.data))
    run = flows_tester.start(count, n=1)

    assert [(one["run_id"], one["output"], one.get("continued_as")) for one in heard] == [
        (run.id, None, run.continued_as),
        (run.continued_as, 2, None),
    ]


def test_it_is_shown_on_the_desk(flows: Flows, flows_tester: FlowsTester, count: Any) -> None:
    first = flows_tester.start(count, n=1)

    assert desk.run(flows.runtime, first.id).run.continued_as == first.continued_as
    assert desk.run(flows.runtime, str(first.continued_as)).run.continued_from == first.id


def test_in_eager_mode_the_last_value_is_given(app: Celery, flows: Flows, count: Any) -> None:
    app.conf.task_always_eager = True
    parent = flows.flow(name="parent")(lambda ctx: ctx.step.invoke("c", count, {"n": 2}))

    assert count.delay(n=3).get() == 4
    assert parent.delay().get() == 3
