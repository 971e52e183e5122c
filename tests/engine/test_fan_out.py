"""Promises of a wide fan-out: one event answers a thousand waits in bounded pieces, and a crash loses none."""

from collections.abc import Callable
from typing import Any

import pytest

from celeryflows import BoundExceeded, Event
from celeryflows.engine import routing
from celeryflows.scheduler.sweeper import route_left
from tests.engine.shop import waiter
from tests.engine.world import World, error_of


class Killed(BaseException):
    """Stands for kill -9: nothing of the engine handles it."""


def open_waits(world: World) -> int:
    with world.store.connection() as connection:
        return connection.execute("SELECT count(*) FROM flows_waits WHERE state = 'open'")[0][0]


def answers_of(world: World, event_id: str) -> int:
    with world.store.connection() as connection:
        return connection.execute("SELECT count(*) FROM flows_waits WHERE event_id = :id", id=event_id)[0][0]


def transactions(world: World, call: Callable[[], Any]) -> list[int]:
    """How many rows each transaction of the call updated, by its statements."""
    sizes: list[int] = []

    def observe(sql: str) -> None:
        if sql.startswith("BEGIN"):
            sizes.append(0)
        elif sql.startswith("UPDATE flows_waits"):
            sizes[-1] += 1

    world.store.observer = observe
    call()
    world.store.observer = None
    return sizes


@pytest.fixture
def thousand(world: World) -> World:
    """A thousand runs that wait for one order."""
    waiter(world, match="data.user")
    world.send([Event("cart/opened", {"user": "u1"})] * 1_000)
    world.tick()
    assert open_waits(world) == 1_000
    return world


def test_one_event_answers_a_thousand_waits_and_the_second_finds_nothing(thousand: World) -> None:
    (first,) = thousand.send("order/placed", {"user": "u1", "n": 1})
    (second,) = thousand.send("order/placed", {"user": "u1", "n": 2})

    assert (answers_of(thousand, first), answers_of(thousand, second)) == (1_000, 0)
    assert {run.output[1]["n"] for run in thousand.runs()} == {1}
    assert len(thousand.runs(status="completed")) == 1_000


def test_no_transaction_of_it_is_larger_than_a_piece(thousand: World) -> None:
    sizes = transactions(thousand, lambda: thousand.flows.send("order/placed", {"user": "u1"}))

    assert sum(sizes) == 1_000
    assert max(sizes) == 200


def test_a_hundred_are_answered_with_the_event_itself(world: World) -> None:
    waiter(world)
    world.send([Event("cart/opened")] * 100)
    world.tick()

    assert transactions(world, lambda: world.flows.send("order/placed")) == [100]


def test_the_clock_need_not_go_on_between_the_waits_and_their_event(world: World) -> None:
    waiter(world)
    world.send([Event("cart/opened")] * 150)

    world.send("order/placed")

    assert len(world.runs(status="completed")) == 150


@pytest.mark.parametrize("pieces", [0, 1, 3])
def test_a_sender_killed_between_two_pieces_leaves_the_rest_to_recovery(
    thousand: World, monkeypatch: pytest.MonkeyPatch, pieces: int
) -> None:
    done: list[str] = []

    def dying(*args: Any) -> Any:
        if len(done) == pieces:
            raise Killed
        done.append("piece")
        return whole(*args)

    whole = routing._route_piece
    monkeypatch.setattr(routing, "_route_piece", dying)
    with pytest.raises(Killed):
        thousand.flows.send("order/placed", {"user": "u1"})
    monkeypatch.undo()
    assert open_waits(thousand) == 1_000 - 200 * pieces

    thousand.clock.turn(250_000)
    assert route_left(thousand.runtime) == 1
    assert route_left(thousand.runtime) == 0
    thousand.drain()

    assert open_waits(thousand) == 0
    assert len(thousand.runs(status="completed")) == 1_000


def test_a_wait_that_begins_after_the_event_is_not_answered_by_a_late_piece(
    thousand: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(*args: Any) -> Any:
        raise Killed

    monkeypatch.setattr(routing, "_route_piece", dying)
    with pytest.raises(Killed):
        thousand.flows.send("order/placed", {"user": "u1"})
    monkeypatch.undo()
    thousand.tick()
    thousand.send("cart/opened", {"user": "u1"})

    thousand.clock.turn(250_000)
    route_left(thousand.runtime)
    thousand.drain()

    assert len(thousand.runs(status="completed")) == 1_000
    assert thousand.runs()[-1].status == "suspended"


def test_two_who_go_on_with_the_same_pieces_answer_each_wait_once(
    thousand: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overtaken(runtime: Any, event_id: str, piece: str) -> Any:
        monkeypatch.undo()
        routing.route_pieces(runtime, event_id, piece)
        return routing._route_piece(runtime, event_id, piece)

    monkeypatch.setattr(routing, "_route_piece", overtaken)
    thousand.flows.send("order/placed", {"user": "u1"})

    assert len({message.run_id for message in thousand.broker.waiting}) == len(thousand.broker.waiting) == 1_000
    thousand.drain()
    assert len(thousand.runs(status="completed")) == 1_000


def test_more_than_a_thousand_conditions_are_judged_in_pieces_too(world: World) -> None:
    waiter(world, if_exp="async.data.user == event.data.user")
    world.send([Event("cart/opened", {"user": f"u{n % 4}"}) for n in range(1_001)])
    world.tick()

    sizes = transactions(world, lambda: world.send("order/placed", {"user": "u1"}))

    assert max(sizes) <= 200
    assert (len(world.runs(status="completed")), open_waits(world)) == (250, 751)


def test_a_wide_fan_out_starts_flows_and_answers_waits(thousand: World) -> None:
    thousand.flow(name="starter", trigger="order/placed")(lambda ctx: ctx.event.data["user"])

    thousand.send("order/placed", {"user": "u1"})

    assert thousand.only_run("starter").output == "u1"
    assert len(thousand.runs("waiter", "completed")) == 1_000


# --- the paths that are waited on


def test_the_33rd_path_of_an_event_is_refused_and_the_32_before_go_on(world: World) -> None:
    data = {f"p{n}": n for n in range(33)}

    @world.flow(name="f", trigger="cart/opened")
    def f(ctx: Any) -> Any:
        path = f"data.p{ctx.event.data['path']}"
        return ctx.step.wait_for_event("order", event="order/placed", timeout="1h", match=path).name

    world.send([Event("cart/opened", {**data, "path": n}) for n in range(33)])

    (refused,) = world.runs(status="failed")
    assert refused.events[0].data["path"] == 32
    failure = error_of(refused)
    assert failure.name == BoundExceeded.__name__
    assert "match paths of event 'order/placed': at most 32, got 33" in failure.message
    assert "Use one fixed path" in failure.message
    world.tick()
    world.send("order/placed", data)
    assert len(world.runs(status="completed")) == 32
