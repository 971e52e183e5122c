"""Promises of a wait for an event: what answers it, what does not, what the handler gets, what a refusal says."""

from typing import Any

import pytest

from celeryflows import Event, ExpressionError
from celeryflows.durations import to_datetime
from tests.engine.shop import waiter
from tests.engine.world import NEW_YEAR, World, error_of, us

SENT = {"user": "u1", "order": {"id": 7}, "tags": ["a", "b"], "flag": True, "none": None}


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
