"""Cancels that meet runs whose event is routed late, wide fan-outs, lost replies, successors and invoked runs."""

from collections.abc import Iterator
from dataclasses import replace
from threading import Event as Flag
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import Engine

from celeryflows import CancelOn, Event, Status, Timeouts
from celeryflows.engine import routing
from celeryflows.engine.routing import route_stored
from celeryflows.scheduler.sweeper import route_left
from tests.engine.orders import recovered
from tests.engine.world import World, statuses, store_at
from tests.store.lossy import Break, LossyStore

BY_ID = CancelOn("order/cancelled", match="data.order_id")


def declare(world: World, **options: Any) -> None:
    """A flow that sleeps for an hour, in a worker."""

    @world.flow(**{"name": "order", "trigger": "order/placed", "cancel_on": BY_ID, **options})
    def order(ctx: Any) -> str:
        ctx.step.sleep("nap", "1h")
        return "shipped"

    world.start_worker()


def placed(n: int = 1) -> Event:
    return Event("order/placed", {"order_id": n})


def cancelled(n: int = 1) -> Event:
    return Event("order/cancelled", {"order_id": n})


# -- the outbox


def test_what_cancels_may_be_routed_before_the_run_that_it_cancels(shared: World, engine: Engine) -> None:
    declare(shared)
    with engine.begin() as connection:
        shared.flows.send([placed(1), placed(2)], transaction=connection)
    [event] = shared.send(cancelled(1))
    assert recovered(shared) == 2
    gone, kept = sorted(shared.runs(), key=lambda run: run.events[0].data["order_id"])
    assert (gone.status, kept.status) == (Status.CANCELLED, Status.SUSPENDED)
    assert gone.reason == f"cancelled by event order/cancelled ({event})"
    assert gone.started_at is None


def test_what_was_sent_before_the_late_event_does_not_cancel(shared: World, engine: Engine) -> None:
    declare(shared)
    shared.send(cancelled())
    with engine.begin() as connection:
        shared.flows.send([cancelled(), placed()], transaction=connection)
    recovered(shared)
    assert statuses(shared.runs()) == [Status.SUSPENDED]


def test_both_in_one_outbox_cancel_in_their_order(shared: World, engine: Engine) -> None:
    declare(shared)
    with engine.begin() as connection:
        shared.flows.send([placed(), cancelled()], transaction=connection)
    recovered(shared)
    assert statuses(shared.runs()) == [Status.CANCELLED]


def test_a_condition_is_judged_for_what_came_before_too(shared: World, engine: Engine) -> None:
    declare(shared, cancel_on=CancelOn("order/cancelled", if_exp="async.data.order_id > event.data.order_id"))
    with engine.begin() as connection:
        shared.flows.send([placed(1), placed(5)], transaction=connection)
    shared.send([Event("order/cancelled", {"order_id": "x"}), cancelled(3)])
    recovered(shared)
    runs = sorted(shared.runs(), key=lambda run: run.events[0].data["order_id"])
    assert statuses(runs) == [Status.CANCELLED, Status.SUSPENDED]
    with shared.store.connection() as connection:
        problems = connection.execute("SELECT problem FROM flows_waits WHERE problem IS NOT NULL")
    assert len(problems) == 2


def test_the_look_back_goes_on_past_its_first_page(
    shared: World, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(shared, cancel_on=CancelOn("order/cancelled", if_exp="async.data.order_id == 7"))
    monkeypatch.setattr(shared.runtime, "settings", _settings(shared, lookback_candidates=3))
    with engine.begin() as connection:
        shared.flows.send(placed(), transaction=connection)
    shared.send([cancelled(n) for n in (1, 2, 3, 4, 5, 6, 7)])
    recovered(shared)
    assert statuses(shared.runs()) == [Status.CANCELLED]


def _settings(world: World, **changed: Any) -> Any:
    return replace(world.runtime.settings, **changed)


def test_flows_that_changed_while_the_event_waited_are_looked_up_under_the_locks(shared: World, engine: Engine) -> None:
    shared.flow(lambda ctx: None, name="order", trigger="order/placed")
    shared.start_worker()
    shared.send(placed(9))
    with engine.begin() as connection:
        shared.flows.send(placed(), transaction=connection)
    deployed = shared.process()
    declare(deployed)  # type: ignore[arg-type]
    deployed.flows.send(cancelled())
    # This process knows the flows of before; what it guesses is checked.
    recovered(shared)
    assert Status.CANCELLED in statuses(shared.runs())


@pytest.mark.parametrize("first", ["route", "cancel"])
def test_arming_and_arrival_that_meet_miss_each_other_in_no_order(
    shared: World, engine: Engine, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    if shared.store.dialect.has_one_writer:
        pytest.skip("one writer: the second transaction begins when the first has ended")
    declare(shared)
    with engine.begin() as connection:
        [event_id] = shared.flows.send(placed(), transaction=connection)
    looked, go_on = Flag(), Flag()
    # The first has looked and seen nothing; the second comes while it is not committed.
    name = "sent_before" if first == "route" else "_waits"
    monkeypatch.setattr(routing, name, _then_dawdle(getattr(routing, name), looked, go_on))
    calls = [lambda: route_stored(shared.runtime, event_id), lambda: shared.flows.send(cancelled())]
    slow, quick = [Thread(target=call) for call in (calls if first == "route" else calls[::-1])]
    slow.start()
    assert looked.wait(10)
    quick.start()
    quick.join(0.3)
    assert quick.is_alive(), "the second has to wait for the first"
    go_on.set()
    slow.join(10)
    quick.join(10)
    assert statuses(shared.runs()) == [Status.CANCELLED]


def _then_dawdle(look: Any, looked: Flag, go_on: Flag) -> Any:
    def dawdle(*args: Any) -> Any:
        found = look(*args)
        # The first one's look alone.
        if not looked.is_set():
            found = found if found is None or isinstance(found, list) else list(found)
            looked.set()
            assert go_on.wait(10)
        return found

    return dawdle


# -- many at once


def test_one_event_cancels_a_thousand_runs_in_bounded_pieces(world: World) -> None:
    declare(world)
    world.flows.send([placed()] * 1_000)
    world.tick()
    sizes: list[int] = []

    def observe(sql: str) -> None:
        if sql.startswith("BEGIN"):
            sizes.append(0)
        elif sql.startswith("UPDATE flows_waits SET state = 'answered'"):
            sizes[-1] += 1

    world.store.observer = observe
    [event] = world.flows.send(cancelled())
    world.store.observer = None
    assert (sum(sizes), max(sizes)) == (1_000, 200)
    assert {run.reason for run in world.runs(status="cancelled")} == {f"cancelled by event order/cancelled ({event})"}
    assert world.runs(status="queued") == []


def test_a_wide_cancel_that_dies_between_its_pieces_is_gone_on_with(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(world)
    world.flows.send([placed()] * 300)
    world.tick()
    with monkeypatch.context() as patch:
        patch.setattr(routing, "route_pieces", lambda *_: None)
        world.flows.send(cancelled())
    world.tick()
    world.flows.send(placed())
    assert world.runs(status="cancelled") == []
    while route_left(world.runtime, 0):
        pass
    # The one that started after the event is not of its affair.
    assert (len(world.runs(status="cancelled")), len(world.runs(status="queued"))) == (300, 1)


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
