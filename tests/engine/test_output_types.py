"""output_type: checked when a value is recorded, and the same type the first time and on every replay."""

import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated

import pytest
from pydantic import BaseModel, ConfigDict, Field

from celeryflows import ConfigurationError, DeclarationError, InvalidOutput, RunFailed, Status, StepError


class Colour(Enum):
    RED = "red"


class Item(BaseModel):
    sku: str
    price: Decimal


class Order(BaseModel):
    id: int
    items: list[Item] = []
    at: datetime | None = None


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    number: int = Field(alias="No")
    pair: tuple[int, int]
    tags: set[str]
    colour: Colour
    names: dict[int, bytes]


@dataclass
class Point:
    x: int
    y: float = 0.0


RAW = {"id": 7, "items": [{"sku": "a", "price": "1.50"}]}
GIVEN = [
    (Order, RAW, Order(id=7, items=[Item(sku="a", price=Decimal("1.50"))])),
    (Order, Order(id=7, at=datetime(2024, 1, 1, tzinfo=UTC)), Order(id=7, at=datetime(2024, 1, 1, tzinfo=UTC))),
    (list[Item], ({"sku": "a", "price": 1},), [Item(sku="a", price=Decimal(1))]),
    (Point, {"x": "3"}, Point(3)),
    (Point, Point(3, 1.5), Point(3, 1.5)),
    (dict[int, Point], {1: Point(2)}, {1: Point(2)}),
    (tuple[int, ...], [1, 2], (1, 2)),
    (Order | None, None, None),
    (Annotated[int, ["no", "hash"]], "5", 5),
    (
        Strict,
        Strict.model_validate({"No": 1, "pair": (1, 2), "tags": {"a"}, "colour": Colour.RED, "names": {1: b"x"}}),
        Strict.model_validate({"No": 1, "pair": (1, 2), "tags": {"a"}, "colour": Colour.RED, "names": {1: b"x"}}),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "raw", "value"), GIVEN)
def test_a_value_is_of_its_type_the_first_time_and_on_replay(flows, flows_tester, kind, raw, value):
    seen = []

    @flows.flow
    def flow(ctx):
        seen.append(ctx.step.using(output_type=kind).run("make", lambda: raw))
        ctx.step.sleep("nap", "1h")

    run = flows_tester.start(flow)
    flows_tester.advance("1h")

    assert run.status == Status.COMPLETED, run.error
    assert seen == [value, value]
    assert [type(one) for one in seen] == [type(value)] * 2


def test_an_async_step_gives_its_type_too(flows, flows_tester):
    seen = []

    async def make():
        return {"id": 1}

    @flows.flow
    async def flow(ctx):
        seen.append(await ctx.step.using(output_type=Order).run("make", make))
        await ctx.step.sleep("nap", "1h")

    flows_tester.start(flow)
    flows_tester.advance("1h")

    assert seen == [Order(id=1), Order(id=1)]


def test_a_value_that_does_not_fit_names_its_fields_and_is_not_tried_again(flows, flows_tester):
    caught = []

    @flows.flow
    def flow(ctx):
        try:
            ctx.step.using(output_type=Order).run("make", lambda: {"items": [{"sku": 1, "price": "much"}]})
        except StepError as error:
            caught.append(error)

    run = flows_tester.start(flow)

    assert (run.status, flows_tester.calls("make")) == (Status.COMPLETED, 1)
    (error,) = caught
    assert error.name == "InvalidOutput"
    for words in ("'make'", "Order", "$.id: Field required", "$.items[0].sku:", "$.items[0].price:"):
        assert words in error.message


def test_an_instance_that_its_own_type_refuses_does_not_fit(flows, flows_tester):
    @flows.flow(retries=0)
    def flow(ctx):
        ctx.step.using(output_type=Point).run("make", lambda: Point("far"))

    run = flows_tester.start(flow)

    assert run.error.name == "InvalidOutput"
    assert "$.x" in run.error.message


def test_a_recorded_value_that_a_changed_type_refuses_is_a_catchable_error_and_stays(flows, flows_tester):
    kinds = [Point, Order]

    @flows.flow
    def flow(ctx):
        try:
            ctx.step.using(output_type=kinds[0]).run("make", lambda: {"x": 1})
        except StepError as error:
            return error.name, error.message
        ctx.step.sleep("nap", "1h")

    run = flows_tester.start(flow)
    del kinds[0]
    flows_tester.advance("1h")

    name, message = run.output
    assert (name, "recorded" in message, "$.id" in message) == ("InvalidOutput", True, True)
    assert next(step.state for step in run.steps if step.id == "make") == "done"


def test_a_validator_that_raises_anything_is_a_misfit(flows, flows_tester):
    class Odd(BaseModel):
        x: int

        def model_post_init(self, _context):
            raise KeyError("odd")

    @flows.flow
    def flow(ctx):
        ctx.step.using(output_type=Odd).run("make", lambda: {"x": 1})

    run = flows_tester.start(flow)

    assert (run.error.name, "KeyError" in run.error.message) == ("InvalidOutput", True)


def test_a_flows_value_must_fit_and_is_read_as_json(flows, flows_tester):
    @flows.flow(output_type=Order)
    def good(ctx):
        return Order(id=1, items=[Item(sku="a", price=Decimal("1.0"))])

    @flows.flow(output_type=Order)
    def bad(ctx):
        ctx.step.run("once", lambda: 1)
        return {"id": "none"}

    run = flows_tester.start(good)
    assert run.get() == {"id": 1, "items": [{"sku": "a", "price": Decimal("1.0")}], "at": None}

    run = flows_tester.start(bad)
    assert (run.status, run.error.name) == (Status.FAILED, InvalidOutput.__name__)
    assert "$.id" in run.error.message
    assert flows_tester.calls("once") == 1
    with pytest.raises(RunFailed, match=r"the flow's value does not fit Order"):
        run.get()


def test_a_flow_of_a_type_that_cannot_be_checked_is_refused_where_it_is_declared(flows):
    with pytest.raises(DeclarationError, match=r"flow 'odd': output_type=.* list\[Model\]"):
        flows.flow(name="odd", output_type=object())(lambda ctx: 1)


def test_without_pydantic_the_remedy_is_named(flows, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydantic", None)

    class Unseen:
        """A type that nobody asked for before."""

    with pytest.raises(ConfigurationError, match=r"pip install 'celeryflows\[pydantic\]'"):
        flows.flow(name="typed", output_type=Unseen)(lambda ctx: 1)
