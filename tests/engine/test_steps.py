"""Steps: each runs once, in order, under its own id, and a replay sees what the first turn saw."""

import pytest

from celeryflows import BoundExceeded, Event, Status, StepMisuse

WORDS = ["a", "b", "c"]


def test_a_flow_without_steps_returns_its_value(flows, flows_tester):
    @flows.flow
    def greet(ctx):
        return f"hello {ctx.event.data['name']}"

    run = flows_tester.start(greet, name="ada")

    assert (run.status, run.output, run.steps) == (Status.COMPLETED, "hello ada", [])


def test_a_lambda_is_a_flow_and_a_failure_handler(app, flows, flows_tester):
    told = []
    fail = flows.flow(name="fail", retries=0, on_failure=lambda ctx: told.append(1))(lambda ctx: 1 / 0)

    app.finalize()
    run = flows_tester.start(fail)

    assert (run.error.name, told) == ("ZeroDivisionError", [1])
    assert {"fail", "fail.on_failure"} <= set(app.tasks)


def test_two_steps_run_once_each_and_the_second_sees_the_firsts_value_on_replay_too(flows, flows_tester):
    seen = []

    @flows.flow
    def add(ctx):
        first = ctx.step.run("first", lambda: 20)
        ctx.step.sleep("rest", "1h")
        second = ctx.step.run("second", lambda: first + 22)
        ctx.step.sleep("rest again", "1h")
        seen.append((first, second))
        return second

    run = flows_tester.start(add)
    flows_tester.advance("2h")

    assert (run.output, seen) == (42, [(20, 42)])
    assert (flows_tester.calls("first"), flows_tester.calls("second")) == (1, 1)


def test_args_and_kwargs_reach_the_step_in_their_order(flows, flows_tester):
    def gather(a, b, *rest, fn, id="none", **more):
        return [a, b, list(rest), fn, id, more]

    @flows.flow
    def flow(ctx):
        return ctx.step.run("gather", gather, 1, "two", 3, 4, fn="mine", id="also mine", slot=5)

    assert flows_tester.start(flow).output == [1, "two", [3, 4], "mine", "also mine", {"slot": 5}]


def test_an_id_repeated_in_a_loop_is_numbered_and_each_has_its_own_value(flows, flows_tester):
    seen = []

    @flows.flow
    def loop(ctx):
        words = [ctx.step.run("word", str.upper, word) for word in WORDS]
        ctx.step.sleep("rest", "1h")
        seen.append(words)

    run = flows_tester.start(loop)
    flows_tester.advance("1h")

    assert seen == [["A", "B", "C"]]
    assert {step.id: step.value for step in run.steps if step.kind == "run"} == {
        "word": '"A"',
        "word:1": '"B"',
        "word:2": '"C"',
    }


@pytest.mark.parametrize(
    "id", ["x" * 256, "é ü 漢字 🎈", "a/b?c=1&d=%20", "'; DROP TABLE flows_steps; --", " ", "a:b", "1"]
)
def test_ids_with_odd_characters_and_of_256_characters_work(flows, flows_tester, id):
    @flows.flow
    def flow(ctx):
        value = ctx.step.run(id, lambda: "once")
        ctx.step.sleep("rest", "1s")
        return value

    run = flows_tester.start(flow)
    flows_tester.advance("1s")

    assert run.output == "once"
    assert flows_tester.calls(id) == 1


@pytest.mark.parametrize(
    ("id", "error", "says"),
    [
        ("x" * 257, BoundExceeded, "step id: at most 256, got 257"),
        ("", StepMisuse, "not empty"),
        (7, StepMisuse, "got 7"),
        ("nul\0", StepMisuse, "NUL"),
        ("\ud800", StepMisuse, "surrogate"),
        ("charge:1", StepMisuse, "ends in ':1'"),
    ],
)
def test_an_id_that_cannot_be_is_refused_with_the_reason_and_not_tried_again(flows, flows_tester, id, error, says):
    @flows.flow
    def flow(ctx):
        ctx.step.run(id, lambda: 1)

    run = flows_tester.start(flow)

    assert (run.status, run.error.name) == (Status.FAILED, error.__name__)
    assert says in run.error.message
    assert flows_tester.calls(id) == 0


def test_a_step_in_a_step_ends_the_run_with_an_error_that_names_both(flows, flows_tester):
    @flows.flow
    def nested(ctx):
        try:
            ctx.step.run("outer", lambda: ctx.step.run("inner", lambda: 1))
        except Exception:
            return "caught"

    run = flows_tester.start(nested)

    assert (run.status, run.error.name) == (Status.FAILED, "StepMisuse")
    assert "'inner'" in run.error.message
    assert "'outer'" in run.error.message
    assert (flows_tester.calls("outer"), flows_tester.calls("inner")) == (1, 0)


@pytest.mark.parametrize("tool", ["run", "sleep", "wait_for_event", "send_event"])
def test_no_step_of_any_kind_works_inside_a_step_even_when_its_error_is_swallowed_there(flows, flows_tester, tool):
    def use(step):
        try:
            calls = {
                "run": lambda: step.run("inner", lambda: 1),
                "sleep": lambda: step.sleep("inner", "1h"),
                "wait_for_event": lambda: step.wait_for_event("inner", event="x/y", timeout="1h"),
                "send_event": lambda: step.send_event("inner", Event("x/y")),
            }
            calls[tool]()
        except BaseException:
            return "swallowed"

    @flows.flow
    def nested(ctx):
        ctx.step.run("outer", use, ctx.step)
        return "went on"

    run = flows_tester.start(nested)

    assert (run.status, run.error.name, run.output) == (Status.FAILED, "StepMisuse", None)
    assert "inner" not in [step.id for step in run.steps]


def test_the_context_tells_the_event_the_run_and_the_flow(flows, flows_tester):
    @flows.flow(name="orders.ship", trigger="order/paid", version="7", retries=2)
    def ship(ctx):
        return [
            ctx.event.name,
            ctx.event.data,
            [event.name for event in ctx.events],
            ctx.run_id,
            ctx.flow,
            ctx.flow_id,
            ctx.version,
            ctx.attempt,
            ctx.max_attempts,
        ]

    run = flows_tester.start(ship, Event("order/paid", {"id": 1}))

    names = ["order/paid", {"id": 1}, ["order/paid"], run.id, "orders.ship", "orders.ship", "7", 0, 3]
    assert run.output == names


def test_the_attempt_is_that_of_the_step_at_hand_and_starts_anew_for_the_next(flows, flows_tester):
    seen = []

    def fail_twice(ctx, id):
        seen.append((id, ctx.attempt))
        if ctx.attempt < 2:
            raise ValueError(id)

    @flows.flow
    def flow(ctx):
        ctx.step.run("a", fail_twice, ctx, "a")
        seen.append(("body", ctx.attempt))
        ctx.step.run("b", fail_twice, ctx, "b")

    flows_tester.start(flow)
    flows_tester.advance("1h")

    steps = [entry for entry in seen if entry[0] != "body"]
    assert steps == [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1), ("b", 2)]
    assert {entry for entry in seen if entry[0] == "body"} == {("body", 0)}


def test_a_celery_task_as_a_step_is_called_in_place(app, flows, flows_tester):
    @app.task
    def double(n, *, plus):
        return 2 * n + plus

    @flows.flow
    def flow(ctx):
        return ctx.step.run("double", double, 20, plus=2)

    assert flows_tester.start(flow).output == 42


def test_celerys_retry_from_inside_a_step_is_a_failed_attempt(app, flows, flows_tester):
    @app.task(bind=True)
    def stubborn(self):
        raise self.retry(countdown=60)

    @flows.flow(retries=1)
    def flow(ctx):
        ctx.step.run("call", stubborn)

    run = flows_tester.start(flow)
    flows_tester.advance("1h")

    assert (run.status, run.error.name, flows_tester.calls("call")) == (Status.FAILED, "Retry", 2)


@pytest.mark.parametrize("what", ["a signature", "a value", "a call's value"])
def test_what_is_no_function_is_refused_before_it_is_a_step(app, flows, flows_tester, what):
    @app.task
    def double(n):
        return 2 * n

    @flows.flow(retries=0)
    def flow(ctx):
        ctx.step.run("double", {"a signature": double.s(21), "a value": 42, "a call's value": double(21)}[what])

    run = flows_tester.start(flow)

    assert (run.error.name, run.steps) == ("TypeError", [])
    assert "'double'" in run.error.message
