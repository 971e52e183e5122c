"""Cancels over a link that breaks, and of runs that belong to others: successors, invoked runs, reruns."""

from collections.abc import Iterator
from typing import Any

import pytest

from celeryflows import CancelOn, Event, Status, Timeouts
from celeryflows.engine import routing
from celeryflows.engine.routing import route_stored
from celeryflows.engine.turn import take_turn
from tests.engine.cancellations import cancelled, declare, placed
from tests.engine.world import World, statuses, store_at
from tests.store.lossy import Break, LossyStore

# -- a link that breaks


@pytest.fixture
def lossy(store_url: str) -> Iterator[World]:
    """A world whose store's link breaks when told to, and that keeps what is told of results."""
    store_at(store_url).dispose()
    world = World(LossyStore(store_url))
    declare(world)
    yield world
    world.close()


@pytest.mark.parametrize("link", ["before", "after"])
@pytest.mark.parametrize("how", ["event", "outbox", "hand", "bulk"])
def test_a_cancel_whose_commit_broke_is_told_all_the_same(
    lossy: World, monkeypatch: pytest.MonkeyPatch, link: Break, how: str
) -> None:
    told: list[str] = []
    monkeypatch.setattr(lossy.broker, "run_cancelled", lambda run_id, *_: told.append(run_id))
    lossy.send(placed())
    run = lossy.only_run()
    event_id = "e-late"
    if how == "outbox":
        with lossy.store.connection() as connection:
            connection.execute(
                "INSERT INTO flows_events (id, name, data, ts, stored_at) "
                "VALUES (:id, 'order/cancelled', '{\"order_id\":1}', 1, {now})",
                id=event_id,
            )
    calls = {
        "event": lambda: lossy.flows.send(cancelled()),
        "outbox": lambda: route_stored(lossy.runtime, event_id),
        "hand": lambda: run.cancel("enough"),
        "bulk": lambda: lossy.flows.cancel(flow="order", because="enough"),
    }
    assert isinstance(lossy.store, LossyStore)
    lossy.store.break_link(link, 0)
    calls[how]()
    assert run.status == Status.CANCELLED
    assert told == [run.id]


# -- runs that belong together


def test_invoked_runs_and_successors_have_what_cancels_them_too(world: World) -> None:
    declare(world, timeouts=Timeouts(start="1h"))

    @world.flow(name="parent", trigger="shop/opened")
    def parent(ctx: Any) -> Any:
        return ctx.step.invoke("child", "order", {"order_id": 5})

    @world.flow(name="line", trigger="line/begun", cancel_on=CancelOn("line/ended", match="data.n"))
    def line(ctx: Any) -> Any:
        if not ctx.event.data.get("again"):
            ctx.continue_as_new({"n": ctx.event.data["n"], "again": True})
        ctx.step.sleep("nap", "1h")

    world.start_worker()
    world.send([Event("shop/opened"), Event("line/begun", {"n": 3})])
    world.send([cancelled(5), Event("line/ended", {"n": 3})])
    world.run_due()
    assert statuses(world.runs("order")) == [Status.CANCELLED]
    assert statuses(world.runs("line")) == [Status.COMPLETED, Status.CANCELLED]
    [told] = world.runs("parent")
    assert (told.status, told.error.name if told.error else None) == (Status.FAILED, "RunCancelled")


def test_a_run_that_goes_on_as_another_while_its_cancel_comes_is_cancelled_as_that(
    shared: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shared.store.dialect.has_one_writer:
        pytest.skip("one writer: nothing comes between a look and its lock")

    @shared.flow(name="line", trigger="line/begun", cancel_on=CancelOn("line/ended", match="data.n"))
    def line(ctx: Any) -> Any:
        if not ctx.event.data.get("again"):
            ctx.continue_as_new({"n": 3, "again": True})
        ctx.step.sleep("nap", "1h")

    shared.start_worker()
    shared.flows.send("line/begun", {"n": 3})
    look = routing._waits

    def then_hand_over(*args: Any) -> Any:
        found = look(*args)
        take_turn(shared.runtime, shared.broker.waiting.popleft().run_id)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(routing, "_waits", then_hand_over)
        shared.flows.send("line/ended", {"n": 3})
    assert statuses(shared.runs("line")) == [Status.COMPLETED, Status.CANCELLED]


def test_a_rerun_has_what_cancels_it_and_the_bound_of_its_start(world: World) -> None:
    declare(world, timeouts=Timeouts(start="1h"))
    world.send(placed())
    world.send(cancelled())
    again = world.only_run().rerun()
    assert again.status == Status.QUEUED
    with world.store.connection() as connection:
        rows = connection.execute("SELECT expires_at - created_at FROM flows_runs WHERE id = :id", id=again.id)
    assert rows == [(3_600_000_000,)]
    world.send(cancelled())
    assert again.status == Status.CANCELLED


def test_an_invoke_of_a_paused_flow_is_a_skipped_run_whose_caller_is_told(world: World) -> None:
    declare(world)
    world.flow(lambda ctx: ctx.step.invoke("child", "order", {"order_id": 5}), name="parent", trigger="shop/opened")
    world.start_worker()
    world.flows.pause("order")
    world.send("shop/opened")
    world.run_due()
    assert statuses(world.runs("order")) == [Status.SKIPPED]
    [parent] = world.runs("parent")
    assert parent.status == Status.FAILED
    assert parent.error is not None
    assert parent.error.message == "paused"
