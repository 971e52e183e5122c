"""Cancels that meet runs whose event is routed late, and wide fan-outs: in any order none is missed."""

from dataclasses import replace
from threading import Event as Flag
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import Engine

from celeryflows import CancelOn, Event, Status
from celeryflows.engine import routing
from celeryflows.engine.routing import route_stored
from celeryflows.model.waits import match_hash
from celeryflows.scheduler.sweeper import route_left
from celeryflows.store.locks import Locks
from tests.engine.cancellations import cancelled, declare, placed
from tests.engine.orders import recovered
from tests.engine.world import World, statuses

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


def test_flows_that_changed_while_the_event_waited_are_looked_up_under_the_locks(
    shared: World, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared.flow(lambda ctx: None, name="order", trigger="order/placed")
    shared.start_worker()
    shared.send(placed(9))
    with engine.begin() as connection:
        shared.flows.send(placed(), transaction=connection)
    deployed = shared.process()
    declare(deployed)  # type: ignore[arg-type]
    deployed.flows.send(cancelled())
    held: set[int] = set()
    hold = Locks.hold_stripes
    monkeypatch.setattr(Locks, "hold_stripes", lambda self, hashes: hold(self, kept(list(hashes))))

    def kept(hashes: list[int]) -> list[int]:
        held.update(hashes)
        return hashes

    # This process knows the flows of before; what it guesses is checked.
    recovered(shared)
    assert Status.CANCELLED in statuses(shared.runs())
    assert match_hash("order/cancelled", "data.order_id", "1") in held


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


def test_a_wide_cancel_that_starts_a_run_of_the_flow_leaves_that_one(world: World) -> None:
    declare(world, cancel_on=CancelOn("order/placed", match="data.order_id"))
    for n in range(300):
        world.flows.send(Event("order/placed", {"order_id": n}))
    with world.store.connection() as connection:
        # Three hundred that the next one cancels, without three hundred times three hundred cancels.
        connection.execute("UPDATE flows_waits SET value = '1', hash = :hash", hash=_hash(1))
    world.flows.send(placed(1))
    assert (len(world.runs(status="cancelled")), len(world.runs(status="queued"))) == (300, 1)


def _hash(n: int) -> int:
    return match_hash("order/placed", "data.order_id", str(n))


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
