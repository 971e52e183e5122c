"""Promises of a send's cost: it does not grow with runs that wait for other values or for other events."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from celeryflows import Event
from celeryflows.clock import TurnedClock
from celeryflows.model.waits import match_hash
from tests.engine.shop import waiter
from tests.engine.world import NEW_YEAR, World, store_at


def statements(world: World, call: Callable[[], Any]) -> list[str]:
    """The statements of a call."""
    seen: list[str] = []
    world.store.observer = seen.append
    call()
    world.store.observer = None
    return seen


def instructions(world: World, call: Callable[[], Any]) -> int:
    """The steps of SQLite's virtual machine in a call: they grow with every row that it looks at."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1

    raw = world.store.engine.raw_connection()
    raw.driver_connection.set_progress_handler(step, 1)
    call()
    raw.driver_connection.set_progress_handler(None, 0)
    raw.close()
    return count


def carts(world: World, users: range) -> None:
    world.send([Event("cart/opened", {"user": f"u{n}"}) for n in users])
    world.tick()


@pytest.fixture
def waiting(world: World) -> World:
    """Ten runs that wait for an order, each of its own user."""
    waiter(world, match="data.user")
    carts(world, range(10))
    return world


def order(world: World, user: str) -> Callable[[], Any]:
    return lambda: world.flows.send("order/placed", {"user": user})


@pytest.mark.parametrize("user", ["u3", "nobody"])
def test_a_send_looks_at_no_row_of_those_who_wait_for_another_value(waiting: World, user: str) -> None:
    order(waiting, "warm up")()
    few = instructions(waiting, order(waiting, user))
    carts(waiting, range(10, 1_000))
    if user == "u3":
        carts(waiting, range(3, 4))

    assert instructions(waiting, order(waiting, user)) <= few + 20


def test_a_send_costs_the_same_statements_whoever_waits(waiting: World) -> None:
    order(waiting, "warm up")()
    few = statements(waiting, order(waiting, "u3"))
    carts(waiting, range(10, 300))

    assert statements(waiting, order(waiting, "u4")) == few


def test_a_send_costs_the_same_whoever_waits_for_events_of_another_name(waiting: World) -> None:
    order(waiting, "warm up")()
    few = instructions(waiting, order(waiting, "u3"))
    waiter(waiting, "by name", "page/opened", event="page/left")
    waiting.send([Event("page/opened")] * 500)
    waiting.tick()

    assert instructions(waiting, order(waiting, "u4")) <= few + 20


def test_a_wait_that_was_answered_long_ago_costs_nothing(waiting: World) -> None:
    order(waiting, "warm up")()
    few = instructions(waiting, order(waiting, "u3"))
    for n in range(100):
        carts(waiting, range(500, 501))
        waiting.send("order/placed", {"user": "u500", "n": n})

    assert instructions(waiting, order(waiting, "u4")) <= few + 20


def test_postgres_finds_the_waits_by_their_index(migrated_postgres: str) -> None:
    world = World(store_at(migrated_postgres, TurnedClock(NEW_YEAR)))
    waiter(world, match="data.user")
    carts(world, range(400))
    wanted = match_hash("order/placed", "data.user", '"u7"')

    with world.store.engine.connect() as connection:
        connection.execute(text("ANALYZE flows_waits"))
        (plan,) = connection.execute(
            text(
                "EXPLAIN (ANALYZE, FORMAT JSON) SELECT id FROM flows_waits WHERE name = 'order/placed' "
                "AND hash = ANY(CAST(:hashes AS bigint[])) AND state = 'open'"
            ),
            {"hashes": [wanted]},
        ).scalar_one()
    world.close()

    scan = plan["Plan"]
    while "Plans" in scan:
        (scan,) = scan["Plans"]
    assert scan["Index Name"] == "flows_waits_open"
    assert (scan["Actual Rows"], scan.get("Rows Removed by Filter", 0)) == (1, 0)
