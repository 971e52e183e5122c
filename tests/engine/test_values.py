"""Values of steps and flows: the same at once and on replay; what cannot be stored fails the step where it lies."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from uuid import UUID

import pytest
from pydantic import BaseModel

from celeryflows import NotStorable, RunFailed, Status, StepError

MOMENT = datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=timezone(timedelta(hours=2)))


@dataclass
class Line:
    item: str
    price: Decimal


class Order(BaseModel):
    id: UUID
    lines: list[str]
    placed: datetime


class Colour(Enum):
    RED = "red"


ORDER_ID = UUID("12345678-1234-5678-1234-567812345678")
SAME = [
    None,
    True,
    0,
    -(2**63),
    2**63 - 1,
    1.0,
    0.1,
    "",
    "é 漢 🎈 \x00 \u2028",
    [],
    {},
    {"a": [1, {"b": None}]},
    MOMENT,
    datetime(2026, 3, 1),
    date(2026, 3, 1),
    time(12, 30),
    timedelta(days=3, microseconds=7),
    ORDER_ID,
    Decimal("10.10"),
    b"\x00\xff",
    {"$flows": ["bytes", "mine"]},
    {"deep": [{"when": MOMENT, "id": ORDER_ID}]},
]
CHANGED = [
    ((1, (2, 3)), [1, [2, 3]]),
    ({3, 1, 2}, [1, 2, 3]),
    (frozenset({"b", "a"}), ["a", "b"]),
    (Line("tea", Decimal("2.50")), {"item": "tea", "price": Decimal("2.50")}),
    (Order(id=ORDER_ID, lines=["tea"], placed=MOMENT), {"id": ORDER_ID, "lines": ["tea"], "placed": MOMENT}),
    (Colour.RED, "red"),
    ({"lines": (Line("tea", Decimal(1)),)}, {"lines": [{"item": "tea", "price": Decimal(1)}]}),
]


def values_at_each_turn(flows, flows_tester, value):
    """What the handler got from the step: at once, and on replay."""
    seen = []

    @flows.flow(retries=0)
    def flow(ctx):
        seen.append(ctx.step.run("make", lambda: value))
        ctx.step.sleep("rest", "1h")
        return seen[-1]

    run = flows_tester.start(flow)
    flows_tester.advance("1h")
    assert run.status == Status.COMPLETED, run.error
    assert run.output == seen[-1]
    return seen


def shown(value):
    """A test's name; a set's own order is another in each process."""
    return f"{type(value).__name__} {sorted(value)}" if isinstance(value, set | frozenset) else repr(value)


@pytest.mark.parametrize("value", SAME, ids=shown)
def test_a_value_comes_back_as_itself(flows, flows_tester, value):
    first, replayed = values_at_each_turn(flows, flows_tester, value)

    assert (first, type(first)) == (value, type(value))
    assert (replayed, type(replayed)) == (value, type(value))


@pytest.mark.parametrize(("value", "form"), CHANGED, ids=shown)
def test_a_value_without_json_form_of_its_own_has_the_documented_one_from_the_first_time_on(
    flows, flows_tester, value, form
):
    first, replayed = values_at_each_turn(flows, flows_tester, value)

    assert (first, type(first)) == (form, type(form))
    assert (replayed, type(replayed)) == (form, type(form))


def test_a_value_that_is_changed_after_its_step_does_not_change_the_memo(flows, flows_tester):
    seen = []

    @flows.flow
    def flow(ctx):
        basket = ctx.step.run("basket", lambda: ["tea"])
        seen.append(list(basket))
        basket.append("milk")
        ctx.step.sleep("rest", "1h")

    flows_tester.start(flow)
    flows_tester.advance("1h")

    assert seen == [["tea"], ["tea"]]


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (object(), "$"),
        ({"items": [1, 2, 3, {"when": object()}]}, "$.items[3].when"),
        ([float("nan")], "$[0]"),
        ({"n": 2**63}, "$.n"),
        ({1: "one"}, "$"),
        ({"text": "\ud800"}, "$.text"),
        (lambda: 1, "$"),
    ],
    ids=["object", "deep", "nan", "big", "key", "surrogate", "function"],
)
def test_a_value_that_cannot_be_stored_fails_the_step_once_naming_the_path(flows, flows_tester, value, path):
    @flows.flow
    def flow(ctx):
        return ctx.step.run("make", lambda: value)

    run = flows_tester.start(flow)
    flows_tester.advance("1h")

    assert (run.status, run.error.name, run.error.step_id) == (Status.FAILED, "NotStorable", "make")
    assert f" at {path}: " in run.error.message
    assert flows_tester.calls("make") == 1


def test_the_handler_may_catch_a_value_that_cannot_be_stored(flows, flows_tester):
    @flows.flow
    def flow(ctx):
        try:
            ctx.step.run("make", object)
        except StepError as error:
            return [error.step_id, error.name]

    assert flows_tester.start(flow).output == ["make", "NotStorable"]


def test_a_flows_own_value_that_cannot_be_stored_fails_the_run_at_once(flows, flows_tester):
    bodies = []

    @flows.flow
    def flow(ctx):
        bodies.append(1)
        return {"answer": object()}

    run = flows_tester.start(flow)
    flows_tester.advance("1h")

    assert (run.status, run.error.name, len(bodies)) == (Status.FAILED, NotStorable.__name__, 1)
    assert "$.answer" in run.error.message
    with pytest.raises(RunFailed, match=r"\$\.answer"):
        run.get()


def test_an_event_is_plain_json_for_its_flow(flows, flows_tester):
    @flows.flow
    def flow(ctx):
        return ctx.event.data

    run = flows_tester.start(flow, id=ORDER_ID, when=datetime(2026, 3, 1, tzinfo=UTC), price=Decimal("1.50"))

    assert run.output["id"] == str(ORDER_ID)
    assert datetime.fromisoformat(run.output["when"]) == datetime(2026, 3, 1, tzinfo=UTC)
    assert run.output["price"] == "1.50"
