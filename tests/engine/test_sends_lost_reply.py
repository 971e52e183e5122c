"""Promises of a send whose link to the store breaks: nothing is doubled, the ids are those that are stored."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from celeryflows import Event, StoreUnavailable
from celeryflows.store.connection import Connection
from tests.engine.shop import waiter
from tests.engine.world import World, store_at
from tests.store.lossy import Break, LossyStore


@pytest.fixture
def lossy(store_url: str) -> Iterator[World]:
    """A world whose store's link breaks when told to."""
    store_at(store_url).dispose()
    world = World(LossyStore(store_url))
    world.flow(name="ship", trigger="order/placed")(lambda ctx: ctx.event.data["n"])
    waiter(world, match="data.user")
    world.send("cart/opened", {"user": "u1"})
    world.send("order/placed", {"n": 0})
    yield world
    world.close()


def break_link(world: World, link: Break) -> None:
    assert isinstance(world.store, LossyStore)
    world.store.break_link(link, 0)


ORDERS = [Event("order/placed", {"n": 1, "user": "u1"}, id="o1"), Event("order/placed", {"n": 2}), Event("a/b")]


@pytest.mark.parametrize("link", ["before", "after"])
def test_a_commit_that_broke_is_made_once_and_its_ids_are_told(lossy: World, link: Break) -> None:
    before = {event.id for event in lossy.events()}
    break_link(lossy, link)

    ids = lossy.flows.send(ORDERS)

    assert [event.id for event in lossy.events() if event.id not in before] == ids
    assert max(Counter(message.run_id for message in lossy.broker.waiting).values()) == 1
    assert len(lossy.broker.waiting) == 3
    lossy.drain()
    assert sorted(run.output for run in lossy.runs("ship")) == [0, 1, 2]
    assert lossy.only_run("waiter").output[1] == {"n": 1, "user": "u1"}
    assert lossy.runs(status="skipped") == []


def test_a_store_that_stays_away_is_told_and_nothing_is_kept(lossy: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Connection) -> Any:
        raise StoreUnavailable("The store does not answer.")

    before = lossy.events()
    lossy.store.patience = 0.1
    with monkeypatch.context() as patch:
        patch.setattr(Connection, "_open", refuse)
        with pytest.raises(StoreUnavailable, match="does not answer"):
            lossy.flows.send(ORDERS)

    assert lossy.events() == before
    assert list(lossy.broker.waiting) == []
    lossy.send(ORDERS)
    assert len(lossy.runs("ship", "completed")) == 3


def test_the_same_ids_sent_again_after_an_outage_start_each_once(lossy: World) -> None:
    for link in ("before", "after", "before"):
        break_link(lossy, link)
        lossy.flows.send(Event("order/placed", {"n": 5}, id="o5"))

    lossy.drain()
    assert [run.output for run in lossy.runs("ship", "completed")].count(5) == 1
    assert len(lossy.runs("ship", "skipped")) == 2
