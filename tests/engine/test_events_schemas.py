"""Promises of registered payload models: what does not fit is refused at send, and handlers get the model."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel, Field

from celeryflows import DeclarationError, Event, InvalidEvent, OnEvent
from tests.engine.world import World


class Address(BaseModel):
    city: str
    lines: list[str] = []


class SignedUp(BaseModel):
    user_id: str
    age: int = Field(ge=18)
    plan: str = "free"
    address: Address | None = None
    at: datetime | None = None


class SignedUpNow(BaseModel):
    account: str


NAME = "user/signed.up"


@pytest.mark.parametrize(
    ("data", "problems"),
    [
        ({"age": 20}, [r"\$\.user_id: Field required"]),
        ({"user_id": "u1", "age": 17}, [r"\$\.age: Input should be greater than or equal to 18"]),
        ({"user_id": 1, "age": "x"}, [r"\$\.user_id: .*string", r"\$\.age: .*integer"]),
        ({"user_id": "u1", "age": 20, "address": {}}, [r"\$\.address\.city: Field required"]),
        ({"user_id": "u1", "age": 20, "address": {"city": "Ulm", "lines": ["a", 2]}}, [r"\$\.address\.lines\.1: "]),
        (None, [r"\$\.user_id: Field required", r"\$\.age: Field required"]),
        ([], ["SignedUp"]),
    ],
)
def test_a_payload_that_does_not_fit_is_refused_with_each_fields_path(
    world: World, data: Any, problems: list[str]
) -> None:
    world.flows.event(NAME, SignedUp)

    for problem in problems:
        with pytest.raises(InvalidEvent, match=f"event '{NAME}' does not fit SignedUp: .*{problem}") as refused:
            world.flows.send([Event("a/b"), Event(NAME, data)])
        assert refused.value.index == 1
    assert world.events() == []


def test_the_refusal_does_not_repeat_the_payload(world: World) -> None:
    world.flows.event(NAME, SignedUp)

    with pytest.raises(InvalidEvent) as refused:
        world.flows.send(NAME, {"user_id": "u1", "age": "secret-4711"})

    assert "4711" not in str(refused.value)


@pytest.mark.parametrize("data", [{"user_id": "u1", "age": 30}, SignedUp(user_id="u1", age=30)])
def test_the_handler_gets_the_model(world: World, data: Any) -> None:
    got: list[Any] = []
    world.flows.event(NAME, SignedUp)
    world.flow(name="welcome", trigger=NAME)(lambda ctx: got.append(ctx.event.data))

    world.send(NAME, data)

    assert got == [SignedUp(user_id="u1", age=30, plan="free")]
    assert type(got[0]) is SignedUp


def test_rich_fields_come_back_as_they_were(world: World) -> None:
    got: list[Any] = []
    world.flows.event(NAME, SignedUp)
    world.flow(name="welcome", trigger=NAME)(lambda ctx: got.append(ctx.event.data))
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    world.send(NAME, SignedUp(user_id="u1", age=30, address=Address(city="Ulm"), at=at))

    assert got == [SignedUp(user_id="u1", age=30, address=Address(city="Ulm"), at=at)]


def test_conditions_see_the_payload_as_json(world: World) -> None:
    world.flows.event(NAME, SignedUp)
    world.flow(name="f", trigger=OnEvent(NAME, "event.data.plan == 'free' && event.data.age > 20"))(lambda ctx: None)

    world.send(NAME, {"user_id": "u1", "age": 30})

    assert world.only_run("f").status == "completed"


def test_a_model_counts_for_its_version_only(world: World) -> None:
    got: list[Any] = []
    world.flows.event(NAME, SignedUp, v="1")
    world.flows.event(NAME, SignedUpNow, v="2")
    world.flow(name="welcome", trigger=NAME)(lambda ctx: got.append(ctx.event.data))

    world.send(NAME, {"user_id": "u1", "age": 30}, v="1")
    world.send(NAME, {"account": "a1"}, v="2")
    world.send(NAME, {"anything": 1})
    with pytest.raises(InvalidEvent, match="does not fit SignedUpNow"):
        world.send(NAME, {"user_id": "u1", "age": 30}, v="2")

    assert got == [SignedUp(user_id="u1", age=30), SignedUpNow(account="a1"), {"anything": 1}]


def test_a_wait_gives_the_model_too(world: World) -> None:
    world.flows.event(NAME, SignedUp)

    @world.flow(name="f", trigger="page/opened")
    def f(ctx: Any) -> Any:
        came = ctx.step.wait_for_event("sign up", event=NAME, timeout="1h")
        return [type(came.data).__name__, came.data.user_id]

    world.send("page/opened")
    world.tick()
    world.send(NAME, {"user_id": "u1", "age": 30})

    assert world.only_run().output == ["SignedUp", "u1"]


def test_a_payload_that_a_newer_model_refuses_reaches_the_handler_as_it_is(world: World) -> None:
    got: list[Any] = []
    world.flow(name="welcome", trigger=NAME)(lambda ctx: got.append(ctx.event.data))
    world.flows.send(NAME, {"user_id": "u1"})
    world.flows.event(NAME, SignedUp)

    world.drain()

    assert got == [{"user_id": "u1"}]


def test_a_sender_without_the_model_is_not_held_to_it(world: World) -> None:
    service = world.process("web")
    world.flows.event(NAME, SignedUp)

    service.flows.send(NAME, {"anything": 1})

    assert len(world.events()) == 1


def test_an_event_of_another_name_is_not_held_to_the_model(world: World) -> None:
    world.flows.event(NAME, SignedUp)

    world.flows.send("user/left", {"anything": 1})

    assert len(world.events()) == 1


@pytest.mark.parametrize("model", [dict, SignedUp(user_id="u1", age=30), "SignedUp", None, 5])
def test_only_a_model_class_is_registered(world: World, model: Any) -> None:
    with pytest.raises(DeclarationError, match=r"takes a pydantic model class"):
        world.flows.event(NAME, model)


def test_our_own_names_take_no_model(world: World) -> None:
    with pytest.raises(InvalidEvent, match="reserved"):
        world.flows.event("flows/run.failed", SignedUp)


def test_registering_gives_the_model_back(world: World) -> None:
    assert world.flows.event(NAME, SignedUp) is SignedUp
