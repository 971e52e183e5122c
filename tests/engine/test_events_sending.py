"""Promises of send: ids and moments, lists that are taken or refused whole, bounds, and what a handler gets."""

import asyncio
import threading
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from celeryflows import BoundExceeded, Event, InvalidEvent
from celeryflows.durations import to_datetime
from tests.engine.world import World


def received(world: World, *events: Event) -> list[Event]:
    """The events as a handler gets them, in order."""
    got: list[Event] = []

    @world.flow(name="taker", trigger=[event.name for event in events])
    def taker(ctx: Any) -> None:
        got.append(ctx.event)

    world.send(list(events))
    return got


def test_an_event_of_only_a_name_gets_an_id_a_moment_and_empty_data(world: World) -> None:
    (event,) = received(world, Event("order/paid"))
    (stored,) = world.events()

    assert event == Event("order/paid", {}, id=stored.id, ts=to_datetime(world.clock.now()), v=None)
    assert stored.ts == world.clock.now()


def test_id_moment_version_and_data_come_back_as_they_were_sent(world: World) -> None:
    at = datetime(2023, 5, 1, 12, 30, 15, 250_000, tzinfo=UTC)
    sent = Event("order/paid", {"n": 1, "deep": {"list": [1.5, None, "ü"]}}, id="evt_1", ts=at, v="2")

    assert received(world, sent) == [sent]


def test_a_name_with_its_data_is_an_event(world: World) -> None:
    (event_id,) = world.flows.send("order/paid", {"n": 1}, id="evt_1", v="2")
    (stored,) = world.events()

    assert (stored.id, stored.ext_id, stored.name, stored.data, stored.v) == (
        event_id,
        "evt_1",
        "order/paid",
        '{"n":1}',
        "2",
    )


def test_data_beside_an_event_is_refused(world: World) -> None:
    with pytest.raises(InvalidEvent, match=r"go into Event\(\.\.\.\)"):
        world.flows.send(Event("order/paid"), {"n": 1})

    assert world.events() == []


def test_ids_come_in_the_order_of_the_list(world: World) -> None:
    ids = world.flows.send([Event("a/b", {"n": n}) for n in range(50)])

    assert len(set(ids)) == 50
    assert [event.id for event in world.events()] == ids
    assert [event.data for event in world.events()] == [f'{{"n":{n}}}' for n in range(50)]


def test_an_empty_list_is_nothing(world: World) -> None:
    assert world.flows.send([]) == []
    assert world.events() == []


def test_asend_is_send_for_async_code(world: World) -> None:
    ids = asyncio.run(world.flows.asend([Event("a/b"), Event("c/d")]))

    assert [event.id for event in world.events()] == ids


def test_asend_refuses_as_send_does(world: World) -> None:
    with pytest.raises(InvalidEvent, match="is empty"):
        asyncio.run(world.flows.asend(""))


# --- refused whole


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Event(""), "is empty"),
        (Event("flows/run.failed", {"flow": "x"}), "reserved"),
        (Event("a/b", [1]), r"data of event 2 is .*Give an object"),
        (Event("a/b", "text"), "Give an object"),
        (Event("a/b", {"x": object()}), r"\$\.x"),
        (Event("a/b", {"x": float("nan")}), r"\$\.x"),
        (Event("a/b", {"x": [2**64]}), r"\$\.x\[0\]"),
        (Event("a/b", {"x": "\ud800"}), r"\$\.x"),
        (Event("a/b", {1: 2}), "key"),
        (Event("a/b", {"x": b"raw"}), r"\$\.x"),
        (Event("a/b", id=""), "1 to 256 characters"),
        (Event("a/b", ts=datetime(2026, 1, 1)), "no time zone"),
        (Event("a/b", v=2), "event v must be a text"),
        (Event("a/b", v="v" * 257), "event v must be a text of at most 256"),
        ("a/b", r"send takes Event\(\.\.\.\)"),
        (None, r"send takes Event\(\.\.\.\)"),
    ],
)
def test_one_bad_event_refuses_the_whole_list_and_is_named(world: World, bad: Any, reason: str) -> None:
    started: list[str] = []
    world.flow(name="any", trigger="a/b")(lambda ctx: started.append(ctx.run_id))

    with pytest.raises(InvalidEvent, match=reason) as refused:
        world.send([Event("a/b"), Event("a/b"), bad, Event("a/b")])

    assert refused.value.index == 2
    assert world.events() == []
    assert world.runs() == []
    assert started == []


def test_5000_events_are_taken_and_5001_refused_whole(world: World) -> None:
    with pytest.raises(BoundExceeded, match=r"events in one send: at most 5,000, got 5,001.*flows_max_events"):
        world.flows.send([Event("a/b")] * 5_001)
    assert world.events() == []

    assert len(set(world.flows.send([Event("a/b")] * 5_000))) == 5_000


# --- bounds of the data


def payload(size: int, letter: str = "x") -> dict[str, str]:
    """Data whose JSON has exactly so many bytes."""
    letters, rest = divmod(size - len('{"x":""}'), len(letter.encode()))
    return {"x": letter * letters + "y" * rest}


@pytest.mark.parametrize("letter", ["x", "ü", "😀"])
def test_an_event_is_measured_as_utf8_json(world: World, letter: str) -> None:
    most = 512 * 1024
    world.flows.send("a/b", payload(most, letter))

    with pytest.raises(InvalidEvent, match=rf"Max {most} bytes / Size {most + 1} bytes.*flows_max_event_bytes"):
        world.flows.send("a/b", payload(most + 1, letter))

    assert len(world.events()) == 1


def test_the_bound_of_an_event_is_a_setting(world: World) -> None:
    small = world.process(max_event_bytes=100)

    small.flows.send("a/b", payload(100))
    with pytest.raises(InvalidEvent, match="Max 100 bytes / Size 101 bytes"):
        small.flows.send("a/b", payload(101))


def nested(depth: int) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for _ in range(depth - 1):
        data = {"x": data}
    return data


def test_data_may_be_100_deep_and_no_deeper(world: World) -> None:
    world.flows.send("a/b", nested(100))

    with pytest.raises(InvalidEvent, match="deep"):
        world.flows.send("a/b", nested(101))


# --- what data may be


class Address(BaseModel):
    city: str
    since: date


def test_a_model_and_rich_values_arrive_as_plain_json(world: World) -> None:
    data = {
        "address": Address(city="Ulm", since=date(2020, 2, 29)),
        "at": datetime(2026, 1, 1, tzinfo=UTC),
        "id": UUID(int=5),
        "price": Decimal("9.90"),
        "pair": (1, 2),
    }

    (event,) = received(world, Event("a/b", data))

    assert event.data["address"] == {"city": "Ulm", "since": "2020-02-29"}
    assert datetime.fromisoformat(event.data["at"]) == data["at"]
    assert (event.data["id"], event.data["price"], event.data["pair"]) == (str(UUID(int=5)), "9.90", [1, 2])


def test_a_model_may_be_the_data_itself(world: World) -> None:
    (event,) = received(world, Event("a/b", Address(city="Ulm", since=date(2020, 2, 29))))

    assert event.data == {"city": "Ulm", "since": "2020-02-29"}


def test_what_is_changed_after_send_changes_nothing(world: World) -> None:
    got: list[Any] = []
    world.flow(name="taker", trigger="a/b")(lambda ctx: got.append(ctx.event.data))
    data = {"list": [1]}

    world.flows.send("a/b", data)
    data["list"].append(2)
    world.drain()

    assert got == [{"list": [1]}]


def test_asend_leaves_the_loop_to_others_while_the_store_is_slow(world: World) -> None:
    others_ran = threading.Event()

    def slow(sql: str) -> None:
        if sql == "COMMIT":
            assert others_ran.wait(10)

    async def view() -> list[str]:
        sent = asyncio.ensure_future(world.flows.asend("a/b"))
        await asyncio.sleep(0)
        others_ran.set()
        return await sent

    world.store.observer = slow
    assert len(asyncio.run(view())) == 1
