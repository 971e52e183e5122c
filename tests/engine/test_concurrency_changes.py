"""Limits that change while runs wait, and what crashes leave at the gates."""

from collections.abc import Iterator
from typing import Any

import pytest

from celeryflows import Concurrency, Event
from celeryflows.engine import leaving
from celeryflows.engine.resume import requeue
from celeryflows.scheduler.doorkeeper import audit, let_in, prune, rejoin_unclaimed
from celeryflows.scheduler.sweeper import NoBroker
from celeryflows.store.runs import Held
from tests.engine.crowd import Crowd
from tests.engine.world import Process, statuses

HOUR = 3_600_000_000


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    made = Crowd()
    yield made
    made.check()
    made.close()


def declare(process: Process, **options: Any) -> None:
    @process.flow(trigger="shop/ordered", name="ship", **options)
    def ship(ctx: Any) -> Any:
        return ctx.step.run("pack", lambda: ctx.event.data.get("no"))

    process.start_worker()


def send(crowd: Crowd, count: int, user: str = "a") -> None:
    crowd.flows.send([Event("shop/ordered", {"no": n, "user": user}) for n in range(count)])


def running(crowd: Crowd, number: int = 0) -> Held:
    """The message's run is claimed by a worker that is about to die."""
    one = crowd.broker.waiting[number]
    del crowd.broker.waiting[number]
    with crowd.store.connection() as connection:
        claim = connection.runs.claim(one.run_id, "dead", 7)
    assert claim is not None
    return Held(claim.run_id, claim.turn, claim.worker, claim.token)


def test_a_raised_limit_lets_in_who_waits_at_once(crowd: Crowd) -> None:
    declare(crowd, concurrency=1)
    send(crowd, 60)
    newer = crowd.process()
    declare(newer, concurrency=50)
    crowd.run_due()
    crowd.drain()
    assert statuses(crowd.runs()) == ["completed"] * 60


def test_a_raised_limit_fills_all_its_room(crowd: Crowd) -> None:
    declare(crowd, concurrency=1)
    send(crowd, 60)
    declare(crowd.process(), concurrency=50)
    from celeryflows.scheduler.doorkeeper import fill_changed

    while fill_changed(crowd.runtime):
        pass
    assert (crowd.in_slots(), crowd.held()) == (50, 10)
    crowd.drain()


def test_who_comes_while_a_raised_limit_is_not_filled_yet_leaves_nobody_without_a_place(crowd: Crowd) -> None:
    declare(crowd, concurrency=1)
    send(crowd, 3)
    newer = crowd.process()
    declare(newer, concurrency=3)
    newer.flows.send("shop/ordered", {"no": 4, "user": "a"})
    crowd.check()
    crowd.run_due()
    crowd.drain()
    assert statuses(crowd.runs()) == ["completed"] * 4


def test_who_was_given_a_slot_and_never_heard_of_it_asks_again(crowd: Crowd) -> None:
    declare(crowd, concurrency=1)
    send(crowd, 3)
    (waits,) = crowd.store_rows("SELECT run_id, rank FROM flows_queue ORDER BY rank LIMIT 1")
    crowd.store_rows("DELETE FROM flows_queue WHERE run_id = :id", id=waits[0])
    crowd.store_rows("UPDATE flows_slots SET run_id = :id, branch = ''", id=waits[0])
    crowd.store_rows("UPDATE flows_runs SET status = 'completed', ended_at = 1, n1 = NULL WHERE held_at IS NULL")
    crowd.broker.waiting.clear()
    assert audit(crowd.runtime) >= 1
    assert let_in(crowd.runtime) == 1
    crowd.drain()
    assert statuses(crowd.runs()) == ["completed"] * 3


def test_a_lowered_limit_lets_nobody_in_before_enough_have_left(crowd: Crowd) -> None:
    declare(crowd, concurrency=5)
    send(crowd, 9)
    assert crowd.in_slots() == 5
    declare(crowd.process(), concurrency=2)
    sizes = []
    while crowd.started():
        crowd.take()
        crowd.check()
        sizes.append(crowd.in_slots())
        if len(sizes) == 2:
            # Whoever comes now waits too.
            crowd.flows.send("shop/ordered", {"no": 9})
            assert crowd.in_slots() == 3
    assert sizes == [4, 3, 2, 2, 2, 2, 2, 2, 1, 0]
    assert statuses(crowd.runs()) == ["completed"] * 10


def test_a_lowered_and_raised_limit_has_all_its_room_again(crowd: Crowd) -> None:
    declare(crowd, concurrency=4)
    send(crowd, 4)
    declare(crowd.process(), concurrency=1)
    crowd.take()
    crowd.take()
    declare(crowd.process(), concurrency=6)
    send(crowd, 8)
    assert (crowd.in_slots(), crowd.held()) == (6, 4)
    crowd.drain()


def test_a_removed_limit_frees_all_who_wait(crowd: Crowd) -> None:
    declare(crowd, concurrency=1)
    send(crowd, 30)
    declare(crowd.process())
    from celeryflows.scheduler.doorkeeper import fill_changed

    while fill_changed(crowd.runtime):
        pass
    assert (crowd.started(), crowd.held()) == (30, 0)
    crowd.drain()
    assert crowd.in_slots() == 0


def test_a_lost_workers_run_keeps_its_slot_and_is_queued_at_once(crowd: Crowd) -> None:
    declare(crowd, concurrency=1)
    send(crowd, 2)
    lost = running(crowd)
    assert requeue(crowd.runtime, lost)
    assert (crowd.in_slots(), crowd.held(), crowd.started()) == (1, 1, 1)
    crowd.drain()
    assert statuses(crowd.runs()) == ["completed"] * 2


def test_a_run_that_was_lost_too_often_gives_its_slot_up(crowd: Crowd) -> None:
    declare(crowd, concurrency=1)
    send(crowd, 2)
    for _ in range(crowd.runtime.settings.max_lost):
        assert requeue(crowd.runtime, running(crowd))
    assert statuses(crowd.runs()) == ["failed", "queued"]
    assert (crowd.in_slots(), crowd.held()) == (1, 0)
    crowd.drain()


def test_a_run_cancelled_while_its_worker_died_gives_its_slot_up(crowd: Crowd) -> None:
    declare(crowd, concurrency=1)
    send(crowd, 2)
    lost = running(crowd)
    crowd.runs()[0].cancel()
    assert (crowd.in_slots(), crowd.held()) == (1, 1)
    # No worker of that name is there: it is found, too.
    assert audit(crowd.runtime) == 1
    assert (crowd.in_slots(), crowd.held()) == (1, 0)
    assert not requeue(crowd.runtime, lost)
    crowd.drain()


def test_a_turn_handed_back_keeps_its_slot(crowd: Crowd) -> None:
    declare(crowd, concurrency=1)
    send(crowd, 2)
    one = crowd.broker.waiting.popleft()
    from celeryflows.engine.turn import take_turn

    take_turn(crowd.runtime, one.run_id, lambda: True)
    assert (crowd.in_slots(), crowd.held(), crowd.started()) == (1, 1, 1)
    crowd.drain()
    assert statuses(crowd.runs()) == ["completed"] * 2


def test_what_a_crash_left_at_the_door_is_let_in(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    @crowd.flow(trigger="shop/ordered", name="ship", concurrency=1)
    def ship(ctx: Any) -> Any:
        return ctx.step.wait_for_event("paid", event="shop/paid", timeout="1h") is not None

    crowd.start_worker()
    crowd.send("shop/ordered", {"no": 0})
    monkeypatch.setattr(leaving, "come_in", lambda *_: None)
    crowd.flows.send("shop/paid")
    monkeypatch.undo()
    assert crowd.started() == 0
    assert let_in(crowd.runtime) == 1
    crowd.drain()
    assert crowd.only_run().output is True


def test_what_a_crash_left_of_a_cancelled_run_is_freed(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(crowd, concurrency=1)
    send(crowd, 3)
    monkeypatch.setattr("celeryflows.engine.routing.settle", lambda *_: None)
    crowd.runs()[0].cancel()
    crowd.runs()[1].cancel()
    monkeypatch.undo()
    assert (crowd.in_slots(), crowd.held()) == (1, 2)
    audit(crowd.runtime)
    assert (crowd.in_slots(), crowd.held()) == (1, 0)
    crowd.drain()
    assert statuses(crowd.runs()) == ["cancelled", "cancelled", "completed"]


def test_a_slot_that_nobody_knows_of_is_found_and_handed_on(crowd: Crowd) -> None:
    declare(crowd, concurrency=1)
    send(crowd, 2)
    crowd.store_rows("UPDATE flows_runs SET n1 = NULL, status = 'suspended' WHERE held_at IS NULL")
    crowd.broker.waiting.clear()
    assert audit(crowd.runtime) == 1
    assert (crowd.started(), crowd.held()) == (1, 0)
    crowd.drain()


def test_a_line_beside_a_free_slot_is_found_and_let_in(crowd: Crowd) -> None:
    declare(crowd, concurrency=1)
    send(crowd, 2)
    crowd.broker.waiting.clear()
    crowd.store_rows("UPDATE flows_slots SET run_id = NULL, branch = NULL")
    crowd.store_rows("UPDATE flows_runs SET status = 'suspended', n1 = NULL WHERE held_at IS NULL")
    assert audit(crowd.runtime) == 1
    assert (crowd.started(), crowd.held()) == (1, 0)
    crowd.drain()


def test_idle_gates_are_forgotten_after_an_hour(crowd: Crowd) -> None:
    declare(crowd, concurrency=Concurrency(2, key="event.data.user"))
    send(crowd, 3, "a")
    crowd.drain()
    send(crowd, 1, "b")
    crowd.clock.turn(HOUR + 1)
    prune(crowd.runtime)
    assert crowd.count("SELECT count(*) FROM flows_gates") == 1
    crowd.drain()
    crowd.clock.turn(HOUR + 1)
    prune(crowd.runtime)
    assert crowd.count("SELECT count(*) FROM flows_gates") + crowd.count("SELECT count(*) FROM flows_slots") == 0
    send(crowd, 1, "b")
    crowd.drain()
    assert statuses(crowd.runs()) == ["completed"] * 5


def test_a_run_that_nobody_takes_stands_behind_those_who_wait(crowd: Crowd) -> None:
    declare(crowd, concurrency=1)
    send(crowd, 2)
    first = crowd.broker.waiting.popleft()
    crowd.tick()
    crowd.clock.turn(61_000_000)

    class Elsewhere(NoBroker):
        def queue_of(self, delivery: Any) -> str:
            return "nobody's"

    assert rejoin_unclaimed(crowd.runtime, Elsewhere()) == 1
    assert (crowd.in_slots(), crowd.held(), crowd.started()) == (1, 1, 1)
    assert crowd.broker.waiting[0].run_id != first.run_id
    crowd.drain()
    assert statuses(crowd.runs()) == ["completed"] * 2
