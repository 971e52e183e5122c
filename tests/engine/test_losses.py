"""Lost workers: a step that was recorded never runs again, one that kills its worker fails, and a dead turn is mute."""

import pytest

from celeryflows import Event, Status


@pytest.fixture
def order(flows):
    @flows.flow(retries=3)
    def order(ctx):
        ctx.step.run("reserve", lambda: 1)
        ctx.step.run("charge", lambda: 2)
        ctx.step.sleep("rest", "1h")
        return ctx.step.run("ship", lambda: 3)

    return order


def calls(flows_tester):
    return [flows_tester.calls(step) for step in ("reserve", "charge", "ship")]


def test_a_crash_after_a_commit_runs_no_step_twice(flows_tester, order):
    for step in ("reserve", "charge", "ship"):
        flows_tester.crash_after(step)

    run = flows_tester.start(order)
    flows_tester.advance("1h")

    assert (run.output, calls(flows_tester)) == (3, [1, 1, 1])


def test_a_crash_before_the_record_runs_that_step_again_and_no_other(flows_tester, order):
    flows_tester.crash_in("charge")

    run = flows_tester.start(order)
    flows_tester.advance("1h")

    assert (run.output, calls(flows_tester)) == (3, [1, 2, 1])


def test_one_loss_is_not_charged(flows, flows_tester):
    @flows.flow(retries=0)
    def flow(ctx):
        return ctx.step.run("work", lambda: "worked")

    flows_tester.crash_in("work")
    run = flows_tester.start(flow)

    assert (run.output, flows_tester.calls("work")) == ("worked", 2)


@pytest.mark.parametrize(("retries", "calls"), [(0, 2), (1, 3), (3, 5)])
def test_a_step_that_kills_its_worker_each_time_fails_after_its_retries(flows, flows_tester, retries, calls):
    @flows.flow(retries=retries)
    def flow(ctx):
        return ctx.step.run("explode", print)

    flows_tester.crash_in("explode", times=100)
    run = flows_tester.start(flow)
    flows_tester.advance("1 day")

    assert (run.status, run.error.step_id, flows_tester.calls("explode")) == (Status.FAILED, "explode", calls)
    assert "worker died" in run.error.message


def test_the_handler_may_catch_a_step_that_kills_its_worker(flows, flows_tester):
    @flows.flow(retries=0)
    def flow(ctx):
        try:
            ctx.step.run("explode", print)
        except Exception as error:
            return error.step_id

    flows_tester.crash_in("explode", times=2)

    assert flows_tester.start(flow).output == "explode"


def test_losses_and_errors_of_a_step_add_up(flows, flows_tester):
    flows_tester.stub("work", ValueError("no"))
    flows_tester.crash_in("work", times=3)

    @flows.flow(retries=2)
    def flow(ctx):
        ctx.step.run("work", print)

    run = flows_tester.start(flow)
    flows_tester.advance("1 day")

    assert (run.status, flows_tester.calls("work")) == (Status.FAILED, 4)


def test_a_step_behind_a_recorded_one_starts_with_no_losses(flows, flows_tester):
    @flows.flow(retries=0)
    def flow(ctx):
        return [ctx.step.run(step, lambda: 1) for step in ("a", "b", "c")]

    for step in ("a", "b", "c"):
        flows_tester.crash_in(step)
    run = flows_tester.start(flow)

    assert (run.output, [flows_tester.calls(step) for step in "abc"]) == ([1, 1, 1], [2, 2, 2])


def test_ten_losses_at_one_point_fail_the_run(flows, flows_tester):
    @flows.flow(retries=20)
    def flow(ctx):
        ctx.step.run("explode", print)

    flows_tester.crash_in("explode", times=10)
    run = flows_tester.start(flow)

    assert (run.status, run.error.name, flows_tester.calls("explode")) == (Status.FAILED, "WorkerLost", 10)
    assert "10 times" in run.error.message


def test_nine_losses_are_survived(flows, flows_tester):
    @flows.flow(retries=20)
    def flow(ctx):
        return ctx.step.run("explode", lambda: "survived")

    flows_tester.crash_in("explode", times=9)

    assert flows_tester.start(flow).output == "survived"


def test_losses_at_different_points_do_not_fail_the_run(flows, flows_tester):
    @flows.flow(retries=0)
    def flow(ctx):
        return sum(ctx.step.run("work", lambda: 1) for _ in range(12))

    for key in ("work", *(f"work:{number}" for number in range(1, 12))):
        flows_tester.crash_in(key)
    run = flows_tester.start(flow)

    assert (run.output, flows_tester.calls("work:11")) == (12, 2)


@pytest.mark.parametrize("caught", [BaseException, Exception])
def test_a_dead_turn_runs_no_step_and_records_nothing_whatever_its_handler_catches(flows, flows_tester, caught):
    bodies = []

    @flows.flow
    def flow(ctx):
        bodies.append(1)
        try:
            ctx.step.run("charge", lambda: "paid")
        except caught:
            ctx.step.run("refund", lambda: 1)
            return "refunded"
        finally:
            ctx.step.run("log", lambda: 1)
        return "charged"

    flows_tester.crash_in("charge")
    run = flows_tester.start(flow)

    assert (run.status, run.output, len(bodies)) == (Status.COMPLETED, "charged", 2)
    assert [flows_tester.calls(step) for step in ("charge", "refund", "log")] == [2, 0, 1]


def test_a_dead_turns_value_is_nobodys(flows, flows_tester):
    """The zombie returns while its run is back in the queue, before the next turn claims it."""
    ends = []
    take = flows_tester._world.turn
    flows_tester._world.turn = lambda runtime, run_id: ends.append(take(runtime, run_id))

    @flows.flow
    def flow(ctx):
        try:
            return ctx.step.run("charge", lambda: "paid")
        except BaseException:
            return "the zombie's"

    flows_tester.crash_in("charge")
    run = flows_tester.start(flow)

    assert run.output == "paid"
    assert [(end.status, end.value) for end in ends] == [(None, None), (Status.COMPLETED, "paid")]


@pytest.mark.parametrize("tool", ["sleep", "wait", "send", "error", "body error"])
def test_a_dead_turn_cannot_sleep_wait_send_or_fail(flows, flows_tester, tool):
    def linger(ctx):
        if tool == "sleep":
            ctx.step.sleep("linger", "1h")
        if tool == "wait":
            ctx.step.wait_for_event("linger", event="x/y", timeout="1h")
        if tool == "send":
            ctx.step.send_event("linger", Event("zombie/sent"))
        raise ValueError("by the zombie")

    sent = []
    flows.flow(name="hears", trigger="zombie/sent")(lambda ctx: sent.append(1))

    @flows.flow(retries=0 if tool == "error" else 3)
    def flow(ctx):
        try:
            return ctx.step.run("charge", lambda: "paid")
        except BaseException:
            linger(ctx)

    flows_tester.crash_in("charge")
    run = flows_tester.start(flow)
    flows_tester.advance("1 day")

    assert (run.status, run.output, run.error, sent) == (Status.COMPLETED, "paid", None, [])
    assert [step.id for step in run.steps] == ["charge"]


def test_events_sent_by_a_step_are_sent_once_over_crashes_and_replays(flows, flows_tester):
    heard = []
    flows.flow(name="hears", trigger="order/shipped")(lambda ctx: heard.append(ctx.event.data["n"]))

    @flows.flow
    def flow(ctx):
        ids = ctx.step.send_event("tell", [Event("order/shipped", {"n": n}) for n in range(2)])
        ctx.step.sleep("rest", "1h")
        return ids

    flows_tester.crash_after("tell")
    run = flows_tester.start(flow)
    flows_tester.advance("1h")

    assert sorted(heard) == [0, 1]
    assert len(set(run.output)) == 2
