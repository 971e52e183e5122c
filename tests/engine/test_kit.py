"""The test kit: flows are started, steps stubbed, events injected and runs looked at."""

from datetime import timedelta

import pytest

from celeryflows import Event, FlowsError, InvalidEvent, OnEvent, Status, StepError, UnknownFlow


def send_email(*args, **kwargs):
    raise AssertionError("no test sends mail")


@pytest.fixture
def onboarding(flows):
    @flows.flow(trigger="user/signed.up")
    def onboarding(ctx):
        user = ctx.event.data
        ctx.step.run("welcome", send_email, user["email"], template="welcome")
        ctx.step.sleep("settle", "3 days")
        order = ctx.step.wait_for_event("first order", event="order/placed", match="data.user_id", timeout="7 days")
        if order is None:
            ctx.step.run("nudge", send_email, user["email"], template="nudge")
        return {"ordered": order is not None}

    return onboarding


SIGNED_UP = Event("user/signed.up", {"user_id": "u1", "email": "a@example.com"})


def test_a_flow_of_ten_days_is_tested_in_no_time(flows_tester, onboarding):
    run = flows_tester.start(onboarding, SIGNED_UP, steps={"welcome": "sent", "nudge": "sent"})
    assert run.status == Status.SUSPENDED
    flows_tester.advance("3 days")
    flows_tester.advance("7 days")

    assert run.output == {"ordered": False}
    assert flows_tester.calls("nudge") == 1


def test_an_event_is_injected_and_answers_a_wait_at_once(flows_tester, onboarding):
    run = flows_tester.start(onboarding, SIGNED_UP, steps={"welcome": "sent"})
    flows_tester.advance("3 days")
    flows_tester.send("order/placed", {"user_id": "someone else"})
    assert run.status == Status.SUSPENDED
    flows_tester.send(Event("order/placed", {"user_id": "u1"}))

    assert (run.output, flows_tester.calls("nudge")) == ({"ordered": True}, 0)


def test_an_event_of_a_trigger_is_routed_and_starts_the_others_too(flows, flows_tester):
    flows.flow(name="other", trigger=OnEvent("user/*"))(lambda ctx: "other's")
    mine = flows.flow(name="mine", trigger="user/signed.up")(lambda ctx: "mine")

    assert flows_tester.start(mine, SIGNED_UP).output == "mine"
    assert [run.output for run in flows_tester.runs("other")] == ["other's"]


def test_any_other_event_calls_the_flow_alone(flows, flows_tester):
    flows.flow(name="other", trigger="user/signed.up")(lambda ctx: 1)
    mine = flows.flow(name="mine", trigger="never/sent")(lambda ctx: ctx.event.name)

    assert flows_tester.start(mine, SIGNED_UP).output == "user/signed.up"
    assert flows_tester.runs("other") == []


@pytest.mark.parametrize(
    ("args", "kwargs", "data"),
    [
        ((), {}, {}),
        (({"a": 1},), {}, {"a": 1}),
        ((), {"a": 1, "flow": 2}, {"a": 1, "flow": 2}),
        (({"a": 1},), {"a": 2}, {"a": 2}),
        ((7,), {}, {"value": 7}),
    ],
)
def test_data_is_given_as_delay_takes_it(flows, flows_tester, args, kwargs, data):
    flow = flows.flow(name="f")(lambda ctx: [ctx.event.name, ctx.event.data])

    assert flows_tester.start(flow, *args, **kwargs).output == ["flows/flow.invoked", data]
    assert flows_tester.start("f", *args, **kwargs).output == ["flows/flow.invoked", data]


def test_a_second_event_of_the_same_id_gives_the_skipped_run(flows, flows_tester):
    flow = flows.flow(name="f", trigger="order/paid")(lambda ctx: 1)
    first, second = (flows_tester.start(flow, Event("order/paid", id="evt-1")) for _ in range(2))

    assert (first.status, second.status) == (Status.COMPLETED, Status.SKIPPED)
    assert first.id in second.reason


def test_a_false_condition_is_told_as_an_error(flows, flows_tester):
    flow = flows.flow(name="f", trigger=OnEvent("order/paid", if_exp="event.data.total > 100"))(lambda ctx: 1)

    assert flows_tester.start(flow, Event("order/paid", {"total": 101})).output == 1
    with pytest.raises(FlowsError, match="condition of its trigger is false"):
        flows_tester.start(flow, Event("order/paid", {"total": 100}))


def test_an_unknown_flow_is_told_with_the_known_ones(flows, flows_tester):
    flows.flow(name="known")(lambda ctx: 1)

    with pytest.raises(UnknownFlow, match=r"No flow 'unknown'\. Known: known\."):
        flows_tester.start("unknown")
    with pytest.raises(TypeError, match="its task or its name"):
        flows_tester.start(lambda ctx: 1)


def test_a_bad_event_is_refused_as_in_production(flows, flows_tester):
    with pytest.raises(InvalidEvent, match="empty"):
        flows_tester.send("")


def test_an_event_of_the_future_starts_its_run_then(flows, flows_tester):
    flow = flows.flow(name="f", trigger="order/paid")(lambda ctx: 1)
    run = flows_tester.start(flow, Event("order/paid", ts=flows_tester.now + timedelta(hours=1)))

    assert run.status == Status.SCHEDULED
    flows_tester.advance("1h")
    assert run.output == 1


def test_a_value_an_exception_and_a_callable(flows, flows_tester):
    @flows.flow(retries=0)
    def flow(ctx):
        got = [ctx.step.run("value", send_email), ctx.step.run("callable", send_email, 20, plus=2)]
        for step in ("exception", "class"):
            try:
                ctx.step.run(step, send_email)
            except StepError as error:
                got.append([error.name, error.message])
        return got

    flows_tester.stub("value", ("a", 1))
    flows_tester.stub("exception", LookupError("no such user"))
    flows_tester.stub("class", ConnectionError)
    flows_tester.stub("callable", lambda n, plus: 2 * n + plus)

    assert flows_tester.start(flow).output == [
        ["a", 1],
        42,
        ["LookupError", "no such user"],
        ["ConnectionError", ""],
    ]


def test_a_stub_is_tried_again_as_a_body_is(flows, flows_tester):
    outcomes = iter([TimeoutError("asleep"), TimeoutError("asleep"), "sent"])

    def flaky():
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    flow = flows.flow(name="f")(lambda ctx: ctx.step.run("mail", send_email))
    flows_tester.stub("mail", flaky)
    run = flows_tester.start(flow)
    assert (run.status, flows_tester.calls("mail")) == (Status.SUSPENDED, 1)
    flows_tester.advance("3s")

    assert (run.output, flows_tester.calls("mail")) == ("sent", 3)


def test_a_stub_covers_its_own_use_of_a_repeated_id_alone(flows, flows_tester):
    flow = flows.flow(name="f")(lambda ctx: [ctx.step.run("c", lambda: "real") for _ in range(3)])

    assert flows_tester.start(flow, steps={"c": "stub", "c:2": "third"}).output == ["stub", "real", "third"]


def test_stubs_of_a_start_are_for_its_run_and_go_first(flows, flows_tester):
    flow = flows.flow(name="f")(lambda ctx: ctx.step.run("mail", send_email))
    flows_tester.stub("mail", "for all")

    assert flows_tester.start(flow, steps={"mail": "for one"}).output == "for one"
    assert flows_tester.start(flow).output == "for all"


def test_steps_of_async_flows_are_stubbed_too(flows, flows_tester):
    async def real():
        raise AssertionError

    @flows.flow
    async def flow(ctx):
        return [await ctx.step.run(step, real) for step in ("value", "function", "coroutine")]

    async def later():
        return "awaited"

    stubs = {"value": 1, "function": lambda: 2, "coroutine": later}

    assert flows_tester.start(flow, steps=stubs).output == [1, 2, "awaited"]


def test_a_stubs_value_is_stored_as_a_real_one_is(flows, flows_tester):
    flow = flows.flow(name="f")(lambda ctx: ctx.step.run("mail", send_email))

    assert flows_tester.start(flow, steps={"mail": object()}).error.name == "NotStorable"


def test_calls_are_counted_in_all_runs_or_in_one(flows, flows_tester):
    flow = flows.flow(name="f")(lambda ctx: [ctx.step.run("work", int) for _ in range(ctx.event.data["times"])])
    one, two = flows_tester.start(flow, times=1), flows_tester.start(flow, times=2)

    assert (flows_tester.calls("work"), flows_tester.calls("work:1")) == (2, 1)
    assert [flows_tester.calls("work:1", run=run) for run in (one, two, two.id)] == [0, 1, 1]
    assert flows_tester.calls("never") == 0


def test_runs_are_found_by_flow_and_status_in_their_order(flows, flows_tester):
    good = flows.flow(name="good")(lambda ctx: 1)
    bad = flows.flow(name="bad", retries=0)(lambda ctx: 1 / 0)
    started = [flows_tester.start(flow) for flow in (good, bad, good)]

    assert [run.id for run in flows_tester.runs()] == [run.id for run in started]
    assert [run.id for run in flows_tester.runs(good)] == [started[0].id, started[2].id]
    assert [run.id for run in flows_tester.runs(status="failed")] == [started[1].id]
