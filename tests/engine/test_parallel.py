"""ctx.group.parallel: branches are turns of their own; values in order, each step once, one turn after the last."""

from collections import Counter
from functools import partial

import pytest

from celeryflows import BoundExceeded, Event, Status, StepError
from celeryflows.engine.turn import take_turn

pytestmark = pytest.mark.usefixtures("each_way")


def later(ctx, seconds, value):
    """A branch that sleeps, then has a value."""
    ctx.step.sleep("nap", f"{seconds}s")
    return value


def fail(text):
    raise ValueError(text)


def test_ten_branches_run_each_step_once_and_give_their_values_in_order(flows, flows_tester):
    @flows.flow
    def flow(ctx):
        return ctx.group.parallel(partial(ctx.step.run, "square", lambda n=n: n * n) for n in range(10))

    run = flows_tester.start(flow)
    assert run.output == [n * n for n in range(10)]
    assert flows_tester.calls("square", run) == 10
    assert [flows_tester.calls(f"group[{n}]/square", run) for n in range(10)] == [1] * 10


def test_one_turn_follows_the_last_branch_and_code_after_the_group_runs_once(flows, flows_tester):
    turns, after = [], []

    @flows.flow
    def flow(ctx):
        turns.append("turn")
        values = ctx.group.parallel(partial(later, ctx, n, n) for n in range(1, 4))
        after.append(ctx.step.run("after", lambda: sum(values)))
        return values

    run = flows_tester.start(flow)
    before = len(turns)
    flows_tester.advance("2s")
    assert (run.status, after) == (Status.SUSPENDED, [])
    flows_tester.advance("1s")
    assert (run.output, after, flows_tester.calls("after", run)) == ([1, 2, 3], [6], 1)
    # Each branch woke once; then the one turn of the run.
    assert len(turns) - before == 4


def test_the_run_holds_no_worker_while_its_branches_sleep(flows, flows_tester):
    @flows.flow
    def flow(ctx):
        return ctx.group.parallel(partial(later, ctx, 60, "a"), partial(later, ctx, 30, "b"))

    run = flows_tester.start(flow)
    assert run.status == Status.SUSPENDED
    flows_tester.advance("59s")
    assert run.status == Status.SUSPENDED
    flows_tester.advance("1s")
    assert run.output == ["a", "b"]


def test_sequences_inside_branches_have_ids_of_their_own_and_do_not_mix(flows, flows_tester):
    @flows.flow
    def flow(ctx):
        def sequence(word):
            first = ctx.step.run("say", lambda: f"{word}1")
            second = ctx.step.run("say", lambda: f"{first} {word}2")
            ctx.step.sleep("nap", "1s")
            return ctx.step.run("say", lambda: f"{second} {word}3")

        before = ctx.step.run("say", lambda: "before")
        return [before, *ctx.group.parallel(partial(sequence, "a"), partial(sequence, "b")), ctx.step.run("say", str)]

    run = flows_tester.start(flow)
    flows_tester.advance("1s")
    assert run.output == ["before", "a1 a2 a3", "b1 b2 b3", ""]
    says = Counter(step.id for step in run.steps if step.kind == "run")
    ids = ["say", "say:1", *(f"group[{n}]/say{count}" for n in range(2) for count in ("", ":1", ":2"))]
    assert says == Counter(ids)


def test_branches_of_steps_sleeps_waits_and_sends_mix(flows, flows_tester):
    @flows.flow
    def flow(ctx):
        def wait():
            paid = ctx.step.wait_for_event("paid", event="order/paid", timeout="1 day")
            return paid.data["sum"]

        branches = [
            partial(ctx.step.run, "step", lambda: "step"),
            partial(later, ctx, 5, "slept"),
            wait,
            partial(ctx.step.send_event, "tell", Event("order/told", {})),
            partial(ctx.step.wait_for_event, "never", event="never/comes", timeout="1h"),
        ]
        return ctx.group.parallel(branches)

    run = flows_tester.start(flow)
    flows_tester.advance("10s")
    flows_tester.send("order/paid", {"sum": 5})
    assert run.status == Status.SUSPENDED
    flows_tester.advance("1h")
    step, slept, paid, (told,), never = run.output
    assert (step, slept, paid, never) == ("step", "slept", 5, None)
    assert isinstance(told, str)


def test_a_group_in_a_group_in_a_group(flows, flows_tester):
    @flows.flow
    def flow(ctx):
        def tree(depth, name):
            if depth == 0:
                return ctx.step.run("leaf", lambda: name)
            return ctx.group.parallel(partial(tree, depth - 1, name + side) for side in "lr")

        return [tree(3, ""), tree(1, "x")]

    run = flows_tester.start(flow)
    assert run.output == [[[["lll", "llr"], ["lrl", "lrr"]], [["rll", "rlr"], ["rrl", "rrr"]]], ["xl", "xr"]]
    assert flows_tester.calls("leaf", run) == 10
    assert flows_tester.calls("group[1]/group[0]/group[1]/leaf", run) == 1
    assert flows_tester.calls("group:1[0]/leaf", run) == 1


def test_one_failing_branch_does_not_stop_the_others_and_the_first_error_names_them_all(flows, flows_tester):
    caught = []

    @flows.flow(retries=0)
    def flow(ctx):
        try:
            ctx.group.parallel(
                partial(later, ctx, 9, "slow"),
                partial(ctx.step.run, "second", fail, "one"),
                partial(ctx.step.run, "third", fail, "two"),
            )
        except StepError as error:
            caught.append(error)
            return ctx.step.run("after", lambda: "went on")

    run = flows_tester.start(flow)
    assert run.status == Status.SUSPENDED
    flows_tester.advance("9s")
    (error,) = caught
    assert (error.step_id, error.name, error.message) == ("group[1]/second", "ValueError", "one")
    assert error.__notes__ == ["step 'group[2]/third' failed: ValueError: two"]
    assert run.output == "went on"


def test_on_failure_is_called_once_though_three_parallel_steps_failed(flows, flows_tester):
    told = []

    @flows.flow(retries=0, on_failure=lambda ctx: told.append(ctx.event.data["error"]))
    def flow(ctx):
        ctx.group.parallel(partial(ctx.step.run, f"s{n}", fail, str(n)) for n in range(3))

    run = flows_tester.start(flow)
    assert run.status == Status.FAILED
    (error,) = told
    assert (error["name"], error["message"], error["step_id"]) == ("ValueError", "0", "group[0]/s0")


def test_a_branchs_own_code_is_retried_by_its_own_counter_and_its_steps_are_kept(flows, flows_tester):
    attempts = []

    @flows.flow(retries=2)
    def flow(ctx):
        def shaky():
            value = ctx.step.run("kept", lambda: 7)
            attempts.append(ctx.attempt)
            if ctx.attempt < 2:
                raise ValueError("not yet")
            return value

        return ctx.group.parallel(shaky, partial(ctx.step.run, "other", lambda: ctx.attempt))

    run = flows_tester.start(flow)
    flows_tester.advance("10s")
    assert (run.output, attempts, flows_tester.calls("kept", run)) == ([7, 0], [0, 1, 2], 1)


def test_a_branch_whose_own_attempts_are_spent_raises_a_step_error_that_names_it(flows, flows_tester):
    @flows.flow(retries=1)
    def flow(ctx):
        try:
            ctx.group.parallel(lambda: 1, partial(fail, "always"))
        except StepError as error:
            return [error.step_id, error.name, error.message]

    run = flows_tester.start(flow)
    flows_tester.advance("10s")
    assert run.output == ["group[1]", "ValueError", "always"]


def test_attempts_inside_a_branch_are_those_of_its_step(flows, flows_tester):
    seen = []

    @flows.flow
    def flow(ctx):
        def step():
            seen.append(ctx.attempt)
            if ctx.attempt < 2:
                raise ValueError

        ctx.group.parallel(partial(ctx.step.run, "shaky", step), lambda: None)

    run = flows_tester.start(flow)
    flows_tester.advance("1h")
    assert (run.status, seen) == (Status.COMPLETED, [0, 1, 2])


def test_an_event_that_a_branch_returns_stays_an_event(flows, flows_tester):
    @flows.flow
    def flow(ctx):
        def both():
            return [ctx.step.wait_for_event("a", event="x/a", timeout="1h"), 5]

        (pair, plain) = ctx.group.parallel(both, lambda: {"$flows": ["event", 1]})
        return [pair[0].name, pair[0].data["n"], pair[1], plain]

    run = flows_tester.start(flow)
    flows_tester.send("x/a", {"n": 3})
    assert run.output == ["x/a", 3, 5, {"$flows": ["event", 1]}]


def test_a_signal_that_a_branch_returns_stays_a_signal(flows, flows_tester):
    @flows.flow
    def flow(ctx):
        asked = partial(ctx.step.wait_for_signal, "asked", "x/go", timeout="1h")
        index, answer = ctx.group.race(partial(ctx.step.sleep, "long", "2h"), asked)
        return [index, answer.name, answer.data]

    run = flows_tester.start(flow)
    flows.signal("x/go", {"$flows": [1]})
    flows_tester.advance("0s")
    assert run.output == [1, "x/go", {"$flows": [1]}]


def test_no_branches_give_no_values_and_no_turn(flows, flows_tester):
    @flows.flow
    def flow(ctx):
        return [ctx.group.parallel(), ctx.group.parallel([]), ctx.group.parallel(lambda: 1)]

    run = flows_tester.start(flow)
    assert run.output == [[], [], [1]]
    assert [step.id for step in run.steps] == ["group:2"]


def test_a_call_in_place_of_a_function_is_refused_with_the_remedy(flows, flows_tester):
    @flows.flow(retries=0)
    def flow(ctx):
        ctx.group.parallel(ctx.step.run("a", lambda: 1), lambda: 2)

    run = flows_tester.start(flow)
    assert run.error.name == "TypeError"
    assert "branch 0 is 1, which was called already; pass a function" in run.error.message


def test_more_branches_than_the_bound_are_refused_and_none_is_started(app, flows, flows_tester):
    @flows.flow
    def flow(ctx):
        try:
            ctx.group.parallel([lambda: 1] * 1001)
        except BoundExceeded as error:
            return str(error)

    run = flows_tester.start(flow)
    assert "at most 1,000, got 1,001" in run.output
    assert "flows_max_branches" in run.output


def test_an_id_that_looks_like_a_branchs_step_is_refused(flows, flows_tester):
    @flows.flow
    def flow(ctx):
        ctx.step.run(ctx.event.data["id"], lambda: 1)

    for id in ("group[0]/a", "group:1[22]/a", "group.x[0]/a"):
        assert flows_tester.start(flow, id=id).error.name == "StepMisuse"
    for id in ("group[0]", "groups[0]/a", "a group[0]/a", "group/[0]/a", "orders[1]/ship"):
        assert flows_tester.start(flow, id=id).status == Status.COMPLETED


def test_groups_may_bear_names(flows, flows_tester):
    @flows.flow
    def flow(ctx):
        return [ctx.group.parallel([lambda: 1], name="pay"), ctx.group.parallel([lambda: 2], name="pay")]

    run = flows_tester.start(flow)
    assert (run.output, [step.id for step in run.steps]) == ([[1], [2]], ["group.pay", "group.pay:1"])


def test_the_logger_prints_each_line_once_around_and_inside_branches(flows, flows_tester, caplog):
    @flows.flow
    def flow(ctx):
        ctx.logger.warning("begin")
        ctx.step.run("a", lambda: 1)
        ctx.logger.warning("before")

        def branch(name):
            ctx.logger.warning("%s 1", name)
            ctx.step.sleep("nap", "1s")
            ctx.logger.warning("%s 2", name)
            ctx.step.run("b", lambda: 1)
            ctx.logger.warning("%s 3", name)

        ctx.group.parallel(partial(branch, "x"), partial(branch, "y"))
        ctx.logger.warning("joined")
        ctx.step.sleep("end", "1s")
        ctx.logger.warning("end")

    run = flows_tester.start(flow)
    flows_tester.advance("10s")
    assert run.status == Status.COMPLETED
    lines = [record.getMessage().partition("] ")[2] for record in caplog.records if record.name == "celeryflows.run"]
    assert Counter(lines) == Counter(
        ["begin", "before", "joined", "end", *(f"{name} {n}" for name in "xy" for n in (1, 2, 3))]
    )


def test_a_doubled_message_of_a_branch_finds_nothing_to_claim(flows, flows_tester):
    @flows.flow
    def flow(ctx):
        return ctx.group.parallel(partial(ctx.step.run, "a", lambda: 1), partial(later, ctx, 60, 2))

    run = flows_tester.start(flow)
    for branch in ("group[0]", "group[1]", "group[2]", "group"):
        assert take_turn(flows.runtime, run.id, branch=branch).status is None
    assert flows_tester.calls("a", run) == 1


@pytest.mark.parametrize("when", ["crash_in", "crash_after"])
def test_a_branch_whose_worker_dies_goes_on_and_no_recorded_step_runs_twice(flows, flows_tester, when):
    @flows.flow
    def flow(ctx):
        def two():
            return [ctx.step.run("a", lambda: 1), ctx.step.run("b", lambda: 2)]

        return ctx.group.parallel(two, two, partial(ctx.group.parallel, two))

    getattr(flows_tester, when)("b", times=2)
    run = flows_tester.start(flow)
    assert run.output == [[1, 2], [1, 2], [[1, 2]]]
    assert flows_tester.calls("a", run) == 3
    assert flows_tester.calls("b", run) == (5 if when == "crash_in" else 3)


def test_a_branch_that_kills_its_worker_each_time_ends_with_an_error_and_the_others_live(flows, flows_tester):
    @flows.flow(retries=1)
    def flow(ctx):
        try:
            ctx.group.parallel(partial(ctx.step.run, "deadly", lambda: 1), partial(ctx.step.run, "fine", lambda: 2))
        except StepError as error:
            return error.message

    flows_tester.crash_in("deadly", times=3)
    run = flows_tester.start(flow)
    assert "the worker died each time" in run.output
    assert flows_tester.calls("fine", run) == 1


def test_cancelling_a_run_cancels_its_branches_with_their_timers_and_waits(flows, flows_tester):
    after = []

    @flows.flow
    def flow(ctx):
        def wait():
            return ctx.step.wait_for_event("w", event="x/y", timeout="1h")

        ctx.group.parallel(partial(later, ctx, 60, 1), partial(ctx.group.parallel, wait))
        after.append("ran")

    run = flows_tester.start(flow)
    assert run.cancel()
    with flows.runtime.store.connection() as connection:
        assert connection.execute("SELECT DISTINCT status FROM flows_branches") == [("cancelled",)]
        assert connection.execute("SELECT DISTINCT state FROM flows_waits") == [("closed",)]
        assert connection.runs.next_due() is None
    flows_tester.send("x/y")
    flows_tester.advance("2h")
    assert (run.status, after) == (Status.CANCELLED, [])


def test_a_running_branch_of_a_cancelled_run_stops_at_its_next_boundary(flows, flows_tester):
    ran = []

    @flows.flow
    def flow(ctx):
        def cancels_itself():
            ctx.step.run("cancel", lambda: flows.run(ctx.run_id).cancel() and "late")
            ran.append("beyond")

        ctx.group.parallel(cancels_itself, partial(ctx.step.run, "other", ran.append, "other"))

    run = flows_tester.start(flow)
    assert (run.status, ran) == (Status.CANCELLED, [])
    assert [(step.id, step.state) for step in run.steps if step.kind == "run"] == [("group[0]/cancel", "late")]
