"""Promises of step.task in the test kit and in eager mode: tasks are called in place, with all that a step has."""

import asyncio
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from pydantic import BaseModel

from celeryflows import Flows, Status, StepError, StepTimeout
from celeryflows.testing import FlowsTester


class Parcel(BaseModel):
    weight: int


def declared(app: Celery, name: str, fn: Any, **options: Any) -> Any:
    """A task of the app; Celery writes a function of its name."""
    fn.__name__ = name
    return app.task(name=name, shared=False, **options)(fn)


@pytest.fixture
def add(app: Celery) -> Any:
    return declared(app, "add", lambda x, y: x + y)


@pytest.fixture
def total(app: Celery) -> Any:
    return declared(app, "total", lambda values: sum(values))


def states(run: Any) -> dict[str, str]:
    return {step.id: step.state for step in run.steps}


# --- one task


@pytest.mark.parametrize("value", [None, 0, "", [1, {"a": None}], {"at": datetime(2026, 1, 1, tzinfo=UTC)}])
def test_a_tasks_value_is_the_steps_value(app: Celery, flows: Flows, flows_tester: FlowsTester, value: Any) -> None:
    task = declared(app, "give", lambda: value)
    run = flows_tester.start(flows.flow(name="f")(lambda ctx: [ctx.step.task("t", task.s())]))
    assert run.output == [value]
    assert flows_tester.calls("t") == 1


def test_a_value_is_the_stored_one_from_the_first_time_on(app: Celery, flows: Flows, flows_tester: FlowsTester) -> None:
    task = declared(app, "give", lambda: {"sizes": (1, 2), 3: "three"})
    seen: list[Any] = []

    @flows.flow(name="f")
    def handler(ctx: Any) -> None:
        seen.append(ctx.step.task("t", task.s()))
        ctx.step.sleep("nap", "1s")

    flows_tester.start(handler)
    flows_tester.advance("1s")
    assert seen == [{"sizes": [1, 2], "3": "three"}] * 2


def test_a_tasks_error_is_a_step_error_with_its_name_and_text(
    app: Celery, flows: Flows, flows_tester: FlowsTester
) -> None:
    def refuse() -> None:
        raise KeyError("no stock")

    task = declared(app, "refuse", refuse)
    run = flows_tester.start(flows.flow(name="f")(lambda ctx: ctx.step.task("t", task.s())))
    assert run.status is Status.FAILED
    assert (run.error.name, run.error.message, run.error.step_id) == ("KeyError", "'no stock'", "t")
    assert "in refuse" in run.error.stack
    assert flows_tester.calls("t") == 1


def test_a_tasks_own_retries_hold_in_place(app: Celery, flows: Flows, flows_tester: FlowsTester) -> None:
    tries = []

    def flaky() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError
        return len(tries)

    task = declared(app, "flaky", flaky, autoretry_for=(ConnectionError,), default_retry_delay=0)
    assert flows_tester.start(flows.flow(name="f")(lambda ctx: ctx.step.task("t", task.s()))).output == 3


@pytest.mark.parametrize("stub", [5, lambda x, y: x + y + 2])
def test_a_step_is_stubbed_by_a_value_or_a_function_of_the_arguments(
    add: Any, flows: Flows, flows_tester: FlowsTester, stub: Any
) -> None:
    flow = flows.flow(name="f")(lambda ctx: ctx.step.task("t", add.s(1, 2)))
    assert flows_tester.start(flow, steps={"t": stub}).output == 5
    assert flows_tester.calls("t") == 1


def test_a_stub_may_raise_and_a_task_of_elsewhere_asks_for_one(
    app: Celery, flows: Flows, flows_tester: FlowsTester
) -> None:
    flow = flows.flow(name="f")(lambda ctx: ctx.step.task("t", app.signature("far.away")))
    assert flows_tester.start(flow, steps={"t": ValueError("closed")}).error.message == "closed"
    assert "'far.away' is not known to this app 'tests'" in flows_tester.start(flow).error.message


def test_a_worker_that_dies_before_the_answer_has_the_task_done_again(
    add: Any, flows: Flows, flows_tester: FlowsTester
) -> None:
    flow = flows.flow(name="f")(lambda ctx: ctx.step.task("t", add.s(1, 2)))
    flows_tester.crash_in("t")
    flows_tester.crash_after("t")
    assert flows_tester.start(flow).output == 3
    assert flows_tester.calls("t") == 2


def test_tasks_are_out_at_once_in_async_flows_and_in_branches(
    add: Any, flows: Flows, flows_tester: FlowsTester
) -> None:
    @flows.flow(name="awaited")
    async def awaited(ctx: Any) -> Any:
        return await asyncio.gather(*(ctx.step.task(f"t{n}", add.s(n, n)) for n in range(3)))

    @flows.flow(name="branched")
    def branched(ctx: Any) -> Any:
        return ctx.group.parallel(partial(ctx.step.task, "t", add.s(n, n)) for n in range(3))

    assert [flows_tester.start(flow).output for flow in (awaited, branched)] == [[0, 2, 4]] * 2


def test_output_type_is_what_the_value_comes_back_as(app: Celery, flows: Flows, flows_tester: FlowsTester) -> None:
    task = declared(app, "give", lambda weight: {"weight": weight})

    @flows.flow(name="f")
    def handler(ctx: Any) -> Any:
        step = ctx.step.using(output_type=Parcel)
        try:
            step.task("bad", task.s("heavy"))
        except StepError as error:
            return [step.task("good", task.s(3)).weight, error.name]

    assert flows_tester.start(handler).output == [3, "InvalidOutput"]


def test_the_task_itself_and_other_things_are_refused_with_what_to_give(
    add: Any, flows: Flows, flows_tester: FlowsTester
) -> None:
    def told(call: Any) -> str:
        with pytest.raises(TypeError) as refused:
            call()
        return str(refused.value)

    @flows.flow(name="f", retries=0)
    def handler(ctx: Any) -> Any:
        return [
            told(lambda: ctx.step.task("t", add)),
            told(lambda: ctx.step.task("t", 5)),
            told(lambda: ctx.step.run("r", add.s(1, 2))),
            told(lambda: ctx.step.task("c", chord([add.s(1, 2)]))),
        ]

    task, other, run, bodiless = flows_tester.start(handler).output
    assert "give its signature, add.s(...)" in task
    assert "takes a Celery signature" in other
    assert "step.task('r', signature) sends it to its own workers" in run
    assert "without a body" in bodiless


def test_arguments_that_do_not_fit_fail_the_step_before_anything_is_sent(
    add: Any, flows: Flows, flows_tester: FlowsTester
) -> None:
    def names(ctx: Any) -> Any:
        found = []
        for id, signature in (("few", add.s(1)), ("odd", add.s(1, object()))):
            try:
                ctx.step.task(id, signature)
            except StepError as error:
                found.append(error.name)
        return found

    assert flows_tester.start(flows.flow(name="f")(names)).output == ["TypeError", "NotStorable"]
    assert flows_tester.calls("few") == flows_tester.calls("odd") == 0


def test_options_that_are_the_tasks_own_affair_are_refused(add: Any, flows: Flows, flows_tester: FlowsTester) -> None:
    flow = flows.flow(name="f")(lambda ctx: ctx.step.using(retries=2).task("t", add.s(1, 2)))
    assert "autoretry_for" in flows_tester.start(flow).error.message


def test_eager_mode_calls_tasks_in_place(app: Celery, add: Any, total: Any, flows: Flows) -> None:
    app.conf.task_always_eager = True
    flow = flows.flow(name="f")(lambda ctx: ctx.step.task("sum", chord([add.s(1, 1), add.s(2, 2)], total.s())))
    assert flow.delay().get() == 6


# --- canvases


def test_each_member_of_a_canvas_is_a_step_below_its_id(
    add: Any, total: Any, flows: Flows, flows_tester: FlowsTester
) -> None:
    canvas = chord([add.s(1, 1), chain(add.s(2, 2), add.s(3))], total.s())
    run = flows_tester.start(flows.flow(name="f")(lambda ctx: ctx.step.task("sum", canvas)))
    assert run.output == 9
    assert states(run) == dict.fromkeys(["sum/add", "sum/add:1", "sum/add:2", "sum/total"], "done")


def test_canvases_of_an_async_flow_are_out_at_once(
    add: Any, total: Any, flows: Flows, flows_tester: FlowsTester
) -> None:
    @flows.flow(name="f")
    async def handler(ctx: Any) -> Any:
        one = ctx.step.task("one", chord([add.s(1, 1), add.s(2, 2)], total.s()))
        two = ctx.step.task("two", chain(add.s(1, 1), add.s(5)))
        return await asyncio.gather(one, two)

    assert flows_tester.start(handler).output == [6, 7]


def test_a_canvas_in_a_branch_stands_below_the_branch(add: Any, flows: Flows, flows_tester: FlowsTester) -> None:
    def handler(ctx: Any) -> Any:
        return ctx.group.parallel(partial(ctx.step.task, "pair", group(add.s(n, 1), add.s(n, 2))) for n in range(2))

    run = flows_tester.start(flows.flow(name="f")(handler))
    assert run.output == [[1, 2], [2, 3]]
    assert {"group[0]/pair/add", "group[1]/pair/add:1"} < set(states(run))


def test_a_flow_in_a_canvas_is_called_in_place_too(add: Any, flows: Flows, flows_tester: FlowsTester) -> None:
    doubled = flows.flow(name="doubled")(lambda ctx: ctx.event.data["value"] * 2)
    flow = flows.from_canvas(chain(add.s(1, 1), doubled.s(), add.s(1)), name="f")
    assert flows_tester.start(flow).output == 5


def test_a_canvas_used_twice_counts_as_a_step_does(add: Any, flows: Flows, flows_tester: FlowsTester) -> None:
    def handler(ctx: Any) -> Any:
        return [ctx.step.task("pair", group(add.s(n, 1), add.s(n, 2))) for n in range(2)]

    run = flows_tester.start(flows.flow(name="f")(handler))
    assert run.output == [[1, 2], [2, 3]]
    assert set(states(run)) == {"pair/add", "pair/add:1", "pair:1/add", "pair:1/add:1"}


def test_members_and_whole_canvases_are_stubbed(add: Any, total: Any, flows: Flows, flows_tester: FlowsTester) -> None:
    flow = flows.flow(name="f")(lambda ctx: ctx.step.task("sum", chord([add.s(1, 1), add.s(2, 2)], total.s())))
    assert flows_tester.start(flow, steps={"sum/add:1": 40}).output == 42
    assert flows_tester.start(flow, steps={"sum": 7}).output == 7


def test_the_first_error_of_a_group_is_raised_when_all_have_ended(
    app: Celery, add: Any, flows: Flows, flows_tester: FlowsTester
) -> None:
    def refuse(n: int) -> None:
        raise ValueError(n)

    task = declared(app, "refuse", refuse)

    def handler(ctx: Any) -> Any:
        try:
            ctx.step.task("all", group(add.s(1, 1), task.s(1), task.s(2)))
        except StepError as error:
            return [error.step_id, error.message, error.__notes__]

    run = flows_tester.start(flows.flow(name="f")(handler))
    assert run.output == ["all/refuse", "1", ["step 'all/refuse:1' failed: ValueError: 2"]]
    assert states(run)["all/add"] == "done"


def test_a_large_group_takes_two_turns_and_a_body_one_more(
    add: Any, total: Any, flows: Flows, flows_tester: FlowsTester
) -> None:
    canvas = chord([add.s(n, 0) for n in range(200)], total.s())
    run = flows_tester.start(flows.flow(name="f")(lambda ctx: ctx.step.task("sum", canvas)))
    assert run.output == 19900
    [(turns,)] = _rows(flows_tester, "SELECT turn FROM flows_runs")
    assert turns == 3


def _rows(tester: FlowsTester, sql: str) -> list[tuple[Any, ...]]:
    with tester._store.connection() as connection:
        return connection.execute(sql)


def test_another_canvas_under_the_id_of_another_kind_of_step_is_told(
    add: Any, flows: Flows, flows_tester: FlowsTester
) -> None:
    sleeps = [True]

    @flows.flow(name="f")
    def handler(ctx: Any) -> Any:
        if sleeps[0]:
            ctx.step.sleep("t", "1s")
            sleeps[0] = False
            ctx.step.sleep("u", "1s")
        return ctx.step.task("t", add.s(1, 2))

    run = flows_tester.start(handler)
    flows_tester.advance("5s")
    assert run.error.name == "NondeterminismError"


# --- canvases as flows


def test_a_canvas_as_a_flow_is_called_and_triggered_as_any(
    add: Any, total: Any, flows: Flows, flows_tester: FlowsTester
) -> None:
    def build(data: Any) -> Any:
        """Add up."""
        return chord([add.s(n, 1) for n in data["numbers"]], total.s())

    flow = flows.from_canvas(build, name="sums", trigger="sums/asked")
    flows_tester.send("sums/asked", {"numbers": [1, 2]})
    [run] = flows_tester.runs("sums")
    assert run.output == 5
    assert states(run) == dict.fromkeys(["build canvas", "add", "add:1", "total"], "done")
    assert flows_tester.start(flow, numbers=[]).output == 0


def test_a_function_that_makes_no_canvas_fails_its_step(flows: Flows, flows_tester: FlowsTester) -> None:
    flow = flows.from_canvas(lambda data: 5, name="odd", retries=0)
    run = flows_tester.start(flow)
    assert (run.error.step_id, "made 5, and no canvas" in run.error.message) == ("build canvas", True)


@pytest.mark.parametrize("what", [5, None])
def test_what_is_no_canvas_is_refused_where_it_is_declared(flows: Flows, what: Any) -> None:
    with pytest.raises(Exception, match="from_canvas takes a signature, chain, group or chord"):
        flows.from_canvas(what, name="odd")


def test_a_task_is_no_canvas(add: Any, flows: Flows) -> None:
    with pytest.raises(Exception, match="from_canvas takes a signature"):
        flows.from_canvas(add, name="odd")


def test_a_rerun_from_a_canvas_does_all_of_it_and_from_a_member_what_takes_from_it(
    add: Any, total: Any, flows: Flows, flows_tester: FlowsTester
) -> None:
    canvas = chord([add.s(1, 1), chain(add.s(2, 2), add.s(3)), add.s(4, 4)], total.s())
    flow = flows.flow(name="f")(lambda ctx: ctx.step.task("sum", canvas))
    run = flows_tester.start(flow)
    assert run.output == 17

    def done_again(from_step: str) -> list[str]:
        again = run.rerun(from_step=from_step)
        flows_tester.advance("0s")
        assert again.output == 17
        return sorted(step.id for step in again.steps if flows_tester.calls(step.id, again))

    assert done_again("sum") == ["sum/add", "sum/add:1", "sum/add:2", "sum/add:3", "sum/total"]
    assert done_again("sum/add:1") == ["sum/add:1", "sum/add:2", "sum/total"]
    assert done_again("sum/add:0") == ["sum/add", "sum/total"]
    assert done_again("sum/total") == ["sum/total"]


def test_a_timeout_is_that_of_the_whole_canvas(add: Any, flows: Flows, flows_tester: FlowsTester) -> None:
    flows_tester.stub("line/add", lambda x, y: flows_tester._clock.turn(3_000_000) or x + y)

    def handler(ctx: Any) -> Any:
        try:
            ctx.step.task("line", chain(add.s(1, 1), add.s(1)), timeout="2s")
        except StepTimeout as late:
            return late.step_id

    assert flows_tester.start(flows.flow(name="f")(handler)).output == "line/add:1"
