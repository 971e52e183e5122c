"""Promises of waits for events: what answers one, what does not, what the handler gets, and what each refusal says."""

import asyncio
from typing import Any

import pytest

from celeryflows import Event, ExpressionError
from celeryflows.durations import to_datetime
from tests.engine.world import NEW_YEAR, World, error_of, us

SENT = {"user": "u1", "order": {"id": 7}, "tags": ["a", "b"], "flag": True, "none": None}


def waiter(world: World, name: str = "waiter", trigger: str = "cart/opened", **wait: Any) -> None:
    """A flow that waits for `order/placed` and returns what came."""
    words = {"event": "order/placed", "timeout": "1h", **wait}

    @world.flow(name=name, trigger=trigger)
    def handler(ctx: Any) -> Any:
        came = ctx.step.wait_for_event("order", **words)
        return None if came is None else [came.name, came.data, came.id, came.v, came.ts.isoformat()]


def test_a_wait_gives_the_whole_event(world: World) -> None:
    waiter(world)
    world.send("cart/opened")
    at = to_datetime(NEW_YEAR - us("1 day"))

    world.send(Event("order/placed", {"total": 5}, id="o1", ts=at, v="3"))

    assert world.only_run().output == ["order/placed", {"total": 5}, "o1", "3", at.isoformat()]


def test_a_wait_gives_none_at_its_timeout_and_not_before(world: World) -> None:
    waiter(world)
    world.send("cart/opened")

    world.turn_to(NEW_YEAR + us("1h") - 1)
    assert world.only_run().status == "suspended"
    world.tick()
    world.run_due()
    assert (world.only_run().status, world.only_run().output) == ("completed", None)


@pytest.mark.parametrize(
    ("wait", "event"),
    [
        ({}, Event("order/lost")),
        ({}, Event("order/placed.late")),
        ({}, Event("Order/placed")),
        ({"match": "data.user"}, Event("order/placed", {"user": "u2"})),
        ({"match": "data.user"}, Event("order/placed", {"user": None})),
        ({"match": "data.user"}, Event("order/placed", {})),
        ({"match": "data.order.id"}, Event("order/placed", {"order": {"id": 8}})),
        ({"match": "data.order.id"}, Event("order/placed", {"order": 7})),
        ({"match": "data.tags"}, Event("order/placed", {"tags": ["b", "a"]})),
        ({"if_exp": "async.data.total > 100"}, Event("order/placed", {"total": 100})),
        ({"if_exp": "async.data.user == event.data.user"}, Event("order/placed", {"user": "u2"})),
        ({"if_exp": "async.data.total > 100"}, Event("order/placed", {"total": "much"})),
    ],
)
def test_another_name_value_or_a_false_condition_answers_nothing(
    world: World, wait: dict[str, Any], event: Event
) -> None:
    waiter(world, **wait)
    world.send("cart/opened", SENT)
    world.tick()

    world.send(event)
    assert world.only_run().status == "suspended"
    world.advance("1h")
    assert world.only_run().output is None


@pytest.mark.parametrize(
    ("wait", "data"),
    [
        ({}, {}),
        ({"match": "data.user"}, {"user": "u1"}),
        ({"match": "data.order.id"}, {"order": {"id": 7}}),
        ({"match": "data.order.id"}, {"order": {"id": 7.0, "more": 1}}),
        ({"match": "data.order"}, {"order": {"id": 7}}),
        ({"match": "data.tags"}, {"tags": ["a", "b"]}),
        ({"match": "data.flag"}, {"flag": True}),
        ({"if_exp": "async.data.total > 100"}, {"total": 101}),
        ({"if_exp": "async.data.user == event.data.user"}, {"user": "u1"}),
        ({"if_exp": "async.data.none == event.data.none"}, {}),
    ],
)
def test_an_equal_value_or_a_true_condition_answers(world: World, wait: dict[str, Any], data: dict[str, Any]) -> None:
    waiter(world, **wait)
    world.send("cart/opened", SENT)
    world.tick()

    world.send("order/placed", data)

    assert world.only_run().output[1] == data


@pytest.mark.parametrize(
    ("wait", "error", "reason"),
    [
        ({"match": "data.user", "if_exp": "true"}, "ExpressionError", "match or if_exp, not both"),
        ({"if_exp": "async.data.x >"}, "ExpressionError", "if_exp of wait 'order'"),
        ({"if_exp": "other.data.x == 1"}, "ExpressionError", "other"),
        ({"if_exp": "nosuch(async.data.x)"}, "ExpressionError", "nosuch"),
        ({"if_exp": ""}, "ExpressionError", "if_exp of wait 'order'"),
        ({"match": "data.none"}, "ExpressionError", "is null or missing in the run's event"),
        ({"match": "data.nothing"}, "ExpressionError", "it would match every event without the field"),
        ({"match": "data.user.name"}, "ExpressionError", "is null or missing"),
        ({"match": "user"}, "ExpressionError", "is no path of a field, such as match='data.order_id'"),
        ({"match": "data"}, "ExpressionError", "is no path of a field"),
        ({"match": "data."}, "ExpressionError", "is no path of a field"),
        ({"match": "data..x"}, "ExpressionError", "is no path of a field"),
        ({"match": ""}, "ExpressionError", "is no path of a field"),
        ({"match": "data." + "x" * 260}, "ExpressionError", "is no path of a field"),
        ({"timeout": "367 days"}, "BoundExceeded", "wait 'order': timeout in seconds: at most 31,622,400"),
        ({"timeout": "0s"}, "InvalidDuration", "too short"),
        ({"timeout": 60}, "InvalidDuration", "wait 'order': timeout"),
        ({"timeout": None}, "InvalidDuration", "wait 'order': timeout"),
        ({"lookback": "turn"}, "InvalidDuration", "or one of 'step', 'wait', 'run'"),
        ({"lookback": 60}, "InvalidDuration", "or one of 'step', 'wait', 'run'"),
        ({"event": ""}, "InvalidEvent", "is empty"),
        ({"event": "order/*"}, "InvalidEvent", "holds '*'"),
    ],
)
def test_a_bad_wait_fails_its_run_at_the_call_and_no_other(
    world: World, wait: dict[str, Any], error: str, reason: str
) -> None:
    waiter(world, "good", match="data.user")
    waiter(world, "bad", **wait)

    world.send("cart/opened", SENT)

    failure = error_of(world.only_run("bad"))
    assert (failure.name, reason in failure.message) == (error, True), failure.message
    world.tick()
    world.send("order/placed", {"user": "u1"})
    assert world.only_run("good").output[1] == {"user": "u1"}


def test_a_bad_wait_may_be_caught_by_the_handler(world: World) -> None:
    @world.flow(name="f", trigger="cart/opened")
    def f(ctx: Any) -> str:
        try:
            ctx.step.wait_for_event("order", event="order/placed", timeout="1h", match="data.user")
        except ExpressionError:
            return "without"
        return "with"

    world.send("cart/opened", {})

    assert world.only_run().output == "without"


# --- who is answered


def test_one_event_answers_every_run_that_waits_for_it(world: World) -> None:
    waiter(world, match="data.user")
    world.send([Event("cart/opened", {"user": user}) for user in ("u1", "u1", "u2", "u1")])
    world.tick()

    world.send("order/placed", {"user": "u1"})

    assert len(world.runs(status="completed")) == 3
    assert len(world.runs(status="suspended")) == 1


def test_the_first_of_several_events_consumes_the_wait(world: World) -> None:
    waiter(world)
    world.send("cart/opened")
    world.tick()

    world.send([Event("order/placed", {"n": n}) for n in range(3)])
    world.send("order/placed", {"n": 3})

    assert world.only_run().output[1] == {"n": 0}


def test_a_wait_and_a_trigger_of_the_same_event_both_have_it(world: World) -> None:
    waiter(world)
    world.flow(name="starter", trigger="order/placed")(lambda ctx: ctx.event.data)
    world.send("cart/opened")
    world.tick()

    world.send("order/placed", {"n": 1})

    assert world.only_run("waiter").output[1] == world.only_run("starter").output == {"n": 1}


def test_a_moment_to_come_delays_runs_and_not_waits(world: World) -> None:
    waiter(world)
    world.send("cart/opened")
    world.tick()

    world.send("order/placed", ts=to_datetime(NEW_YEAR + us("10 days")))

    assert world.only_run().status == "completed"


def test_an_answered_wait_is_shown_with_its_event(world: World) -> None:
    waiter(world)
    world.send("cart/opened")
    world.tick()

    (event_id,) = world.send("order/placed")

    (step,) = world.only_run().steps
    assert (step.id, step.kind, step.wait, step.wait_name, step.event_id) == (
        "order",
        "wait",
        "answered",
        "order/placed",
        event_id,
    )


def test_a_cancelled_run_is_answered_by_nothing(world: World) -> None:
    waiter(world)
    world.send("cart/opened")
    world.only_run().cancel()
    world.tick()

    world.send("order/placed")

    assert world.only_run().status == "cancelled"
    assert [step.wait for step in world.only_run().steps] == ["closed"]


# --- conditions that cannot be judged


def test_a_stray_event_that_cannot_be_judged_leaves_the_wait_open_and_shows_why(world: World) -> None:
    waiter(world, if_exp="async.data.total > 100")
    world.send("cart/opened")
    world.tick()

    world.send("order/placed", {"total": "much"})
    (step,) = world.only_run().steps
    assert step.wait == "waiting" or step.wait == "open"
    assert step.problem
    world.send("order/placed", {"total": 500})

    assert world.only_run().output[1] == {"total": 500}


def test_fifty_runs_with_unevaluable_conditions_do_not_disturb_the_51st(world: World) -> None:
    waiter(world, "broken", "broken/opened", if_exp="async.data.total > event.data.least")
    waiter(world, "good", "good/opened", if_exp="async.data.total > 100")
    world.send([Event("broken/opened", {"least": "much"})] * 50)
    world.send("good/opened")
    world.tick()

    world.send("order/placed", {"total": 500})

    assert world.only_run("good").output[1] == {"total": 500}
    broken = world.runs("broken")
    assert len([run for run in broken if run.status == "suspended" and run.steps[0].problem]) == 50


# --- several waits of one run


def test_waits_at_once_keep_their_own_timeouts(world: World) -> None:
    @world.flow(name="f", trigger="cart/opened")
    async def f(ctx: Any) -> Any:
        a, b, _ = await asyncio.gather(
            ctx.step.wait_for_event("a", event="a/came", timeout="1h"),
            ctx.step.wait_for_event("b", event="b/came", timeout="3h"),
            ctx.step.sleep("nap", "2h"),
        )
        return [a, b.data, world.clock.now() - NEW_YEAR]

    world.send("cart/opened")
    world.advance("2h30m")
    world.send("b/came", {"n": 1})

    assert world.only_run().output == [None, {"n": 1}, us("2h30m")]


@pytest.mark.parametrize("order", ["event first", "waits first"])
def test_one_event_answers_all_waits_of_a_run_that_match_it_whoever_was_first(world: World, order: str) -> None:
    def opened() -> None:
        if order == "event first":
            world.flows.send("order/placed", {"n": 1})

    @world.flow(name="f", trigger="cart/opened")
    async def f(ctx: Any) -> Any:
        await ctx.step.run("open", opened)
        found = await asyncio.gather(
            ctx.step.wait_for_event("a", event="order/placed", timeout="1h"),
            ctx.step.wait_for_event("b", event="order/placed", timeout="1h", if_exp="async.data.n == 1"),
        )
        return [came.data["n"] if came else None for came in found]

    world.send("cart/opened")
    world.tick()
    if order == "waits first":
        world.send("order/placed", {"n": 1})
    world.advance("2h")

    assert world.only_run().output == [1, 1]
