"""A PostgreSQL database that is not in UTF-8: what it can hold goes on there as anywhere."""

from collections.abc import Iterator
from typing import Any

import pytest

from celeryflows import Concurrency, Event, Status
from celeryflows.scheduler.doorkeeper import audit
from celeryflows.store.database import Store
from celeryflows.store.upgrade import upgrade
from tests.engine.world import World, store_at


@pytest.fixture
def world(postgres_server: Any) -> Iterator[World]:
    name = postgres_server.create_database(encoding="LATIN1")
    store = Store(postgres_server.url(name))
    upgrade(store)
    store.dispose()
    made = World(store_at(postgres_server.url(name)))
    yield made
    made.close()
    postgres_server.drop_database(name)


def test_limited_runs_end_and_what_they_left_behind_is_found(world: World) -> None:
    @world.flow(name="ship", trigger="order/paid", concurrency=Concurrency(1, key="event.data.user"))
    def ship(ctx: Any) -> Any:
        return ctx.step.run("greet", str, ctx.event.data["user"])

    world.flows.send([Event("order/paid", {"user": "Zoë"}) for _ in range(2)])
    world.drain()
    assert [(run.status, run.output) for run in world.flows.runs()] == [(Status.COMPLETED, '"Zoë"')] * 2
    assert audit(world.runtime) == 0
    # As a crash of the database leaves it, which forgot the end of one that had given its slot back.
    world.store_rows("UPDATE flows_runs SET held_at = 'gone' RETURNING 1")
    assert audit(world.runtime) >= 1
