"""Middleware: what passes may be changed, the first outermost, and a replay sees what the first time saw."""

import asyncio
from dataclasses import replace

import pytest
from celery import Celery

from celeryflows import ConfigurationError, Event, Flows, InvalidEvent, Middleware, Status, StepError
from celeryflows.testing import FlowsTester

FIRST_TO_LAST = ["outer", "inner"]
LAST_TO_FIRST = ["inner", "outer"]


class Marking(Middleware):
    """Adds its mark to all that passes."""

    def __init__(self, mark):
        self.mark = mark

    def send(self, event):
        return replace(event, data={**(event.data or {}), "marks": [*(event.data or {}).get("marks", []), self.mark]})

    def run_input(self, ctx):
        ctx.marks = [*getattr(ctx, "marks", []), self.mark]

    def step_input(self, step):
        return replace(step, args=([*step.args[0], self.mark],))

    def step_output(self, step, value):
        return [*value, self.mark]

    def run_output(self, run, value):
        return [*value, self.mark]


class Failing(Middleware):
    """Raises in one hook."""

    def __init__(self, hook, error, times=1_000):
        self.calls = 0

        def fail(*_):
            self.calls += 1
            if self.calls <= times:
                raise error

        setattr(self, hook, fail)


def flows_with(*middleware) -> tuple[Flows, FlowsTester]:
    """Flows with this middleware, and their tester."""
    flows = Flows(Celery("tests", broker="memory://", set_as_current=False), middleware=middleware)
    return flows, FlowsTester(flows)


def test_what_comes_in_passes_first_to_last_and_what_goes_out_last_to_first():
    flows, tester = flows_with(Marking("outer"), Marking("inner"))

    @flows.flow(name="f", trigger="go")
    def flow(ctx):
        assert ctx.marks == FIRST_TO_LAST
        assert ctx.step.run("echo", list, []) == [*FIRST_TO_LAST, *LAST_TO_FIRST]
        return ctx.event.data["marks"]

    with tester:
        tester.send("go")
        (run,) = tester.runs()

        assert run.output == [*FIRST_TO_LAST, *LAST_TO_FIRST]
        assert run.events[0].data == {"marks": FIRST_TO_LAST}


def test_async_flows_pass_the_same_hooks_with_coroutines_and_with_functions():
    flows, tester = flows_with(Marking("outer"), Marking("inner"))

    async def echo(marks):
        await asyncio.sleep(0)
        return marks

    @flows.flow(name="f")
    async def flow(ctx):
        return [await ctx.step.run("awaited", echo, []), await ctx.step.run("called", list, [])]

    with tester:
        output = tester.start(flow).output

    assert output == [[*FIRST_TO_LAST, *LAST_TO_FIRST]] * 2 + LAST_TO_FIRST


def test_a_steps_output_is_changed_once_and_a_replay_reads_it_as_it_was_stored():
    seen = []

    class Counting(Middleware):
        def step_output(self, step, value):
            return f"{value}!"

    flows, tester = flows_with(Counting())

    @flows.flow(name="f")
    def flow(ctx):
        seen.append(ctx.step.run("say", lambda: "hello"))
        ctx.step.sleep("rest", "1h")
        return seen[-1]

    with tester:
        run = tester.start(flow)
        tester.advance("1h")

        assert (seen, run.output) == (["hello!", "hello!"], "hello!")


def test_none_leaves_what_passes_as_it_is():
    flows, tester = flows_with(Middleware())

    @flows.flow(name="f", trigger="go")
    def flow(ctx):
        return [ctx.event.data, ctx.step.run("none", lambda: None)]

    with tester:
        tester.send("go", {"a": 1})

        assert tester.runs()[0].output == [{"a": 1}, None]


def test_a_step_knows_its_id_attempt_and_function():
    seen = []

    class Looking(Middleware):
        def step_input(self, step):
            seen.append((step.flow, step.id, step.attempt, step.args, dict(step.kwargs)))

    flows, tester = flows_with(Looking())

    def weak(a, b=0):
        if len(seen) == 2:
            raise ValueError("once")

    @flows.flow(name="f")
    def flow(ctx):
        for _ in range(2):
            ctx.step.run("weak", weak, 1, b=2)

    with tester:
        tester.start(flow)
        tester.advance("1m")

    assert seen == [("f", id, attempt, (1,), {"b": 2}) for id, attempt in (("weak", 0), ("weak:1", 0), ("weak:1", 1))]


def test_what_the_hook_of_send_raises_refuses_the_whole_send_and_nothing_is_stored(flows):
    flows, tester = flows_with(Failing("send", InvalidEvent("no tenant")))
    flow = flows.flow(name="f")(lambda ctx: None)

    with tester:
        with pytest.raises(InvalidEvent, match="no tenant"):
            tester.send([Event("go"), Event("go")])
        with pytest.raises(InvalidEvent, match="no tenant"):
            tester.start(flow)

        assert tester.runs() == []


def test_a_step_that_sends_events_passes_the_hook_once_over_any_number_of_replays():
    flows, tester = flows_with(marking := Failing("send", ValueError(), times=0))

    @flows.flow(name="f", trigger="go")
    def flow(ctx):
        ctx.step.send_event("tell", Event("told"))
        ctx.step.sleep("rest", "1h")

    with tester:
        tester.send("go")
        tester.advance("1h")

        assert tester.runs()[0].status is Status.COMPLETED
    assert marking.calls == 2, "one for what the test sent, one for what the step sent"


@pytest.mark.parametrize("hook", ["run_input", "run_output"])
def test_an_error_in_a_runs_hook_is_the_bodys_and_is_tried_again(hook):
    flows, tester = flows_with(failing := Failing(hook, OSError("for a moment"), times=1))
    flow = flows.flow(name="f")(lambda ctx: ctx.step.run("one", lambda: 1))

    with tester:
        run = tester.start(flow)
        assert (run.status, run.error.name) == (Status.SUSPENDED, "OSError")
        tester.advance("1m")

        assert (run.output, failing.calls, tester.calls("one")) == (1, 2, 1)


@pytest.mark.parametrize("hook", ["step_input", "step_output"])
def test_an_error_in_a_steps_hook_is_the_steps(hook):
    flows, tester = flows_with(Failing(hook, OSError("always")))

    @flows.flow(name="f", retries=1)
    def flow(ctx):
        try:
            ctx.step.run("one", lambda: 1)
        except StepError as error:
            return [error.step_id, error.name]

    with tester:
        run = tester.start(flow)
        tester.advance("1m")

        assert run.output == ["one", "OSError"]


def test_a_handler_that_is_suspended_has_no_output_to_change():
    flows, tester = flows_with(failing := Failing("run_output", ValueError(), times=0))

    @flows.flow(name="f")
    def flow(ctx):
        try:
            ctx.step.sleep("rest", "1h")
        finally:
            return "early"  # noqa: B012 - what a handler may do

    with tester:
        run = tester.start(flow)
        assert (run.status, failing.calls) == (Status.SUSPENDED, 0)
        tester.advance("1h")

        assert (run.output, failing.calls) == ("early", 1)


def test_middleware_serves_an_app_that_is_given_later():
    flows = Flows(middleware=[Marking("m")])
    flow = flows.flow(name="f")(lambda ctx: ctx.marks)
    flows.init_app(Celery("tests", broker="memory://", set_as_current=False))

    with FlowsTester(flows) as tester:
        assert tester.start(flow).output == ["m", "m"]


@pytest.mark.parametrize("given", [Marking, object(), "audit"])
def test_what_is_no_instance_of_middleware_is_refused_with_the_remedy(given):
    with pytest.raises(ConfigurationError, match="instances of Middleware"):
        Flows(middleware=[given])
