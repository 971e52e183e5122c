"""The end of a limited run of which nobody listens: one short transaction, and whoever waits starts with it."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from celeryflows import CancelOn, Concurrency, Event, Status, StoreUnavailable
from tests.engine.world import World, statuses
from tests.store.lossy import Break, LossyStore

EVENT = "job/asked"


def declared(world: World, before_end: Callable[[int], object], **options: Any) -> None:
    @world.flow(name="shop.job", trigger=EVENT, **({"concurrency": 1} | options))
    def job(ctx: Any) -> int:
        before_end(ctx.event.data["n"])
        return ctx.event.data["n"]  # type: ignore[no-any-return]

    world.start_worker()


def nothing_is_left(world: World) -> None:
    assert world.store_rows("SELECT 1 FROM flows_slots WHERE run_id IS NOT NULL") == []
    assert world.store_rows("SELECT 1 FROM flows_queue") == []


@pytest.mark.parametrize("waiting", [1, 3])
@pytest.mark.parametrize("link", ["statement", "before", "after", "during"])
def test_whatever_breaks_at_the_end_each_run_ends_once_and_the_next_starts(
    lossy: World, link: Break, waiting: int
) -> None:
    store = lossy.store
    assert isinstance(store, LossyStore)
    at, reached, ran = 0, True, list[int]()

    def before_end(n: int) -> None:
        ran.append(n)
        if n == 0:
            store.break_link(link, at)

    declared(lossy, before_end)
    while reached:
        ran.clear()
        lossy.flows.send([Event(EVENT, {"n": n}) for n in range(waiting)])
        with suppress(StoreUnavailable):
            # What is looked at after the end may be what breaks.
            lossy.run_due()
        reached = len(store.statements if link == "statement" else store.commits) > at
        store.break_link("after", -1)
        lossy.advance("1m")
        assert ran == list(range(waiting))
        nothing_is_left(lossy)
        at += 1
    assert at > 1
    assert set(statuses(lossy.runs())) == {Status.COMPLETED}


def test_a_run_that_was_cancelled_meanwhile_frees_its_slot_all_the_same(turned: World) -> None:
    def cancelled(n: int) -> None:
        if n == 0:
            turned.runs()[0].cancel()

    declared(turned, cancelled)
    turned.send([Event(EVENT, {"n": n}) for n in range(2)])
    assert statuses(turned.runs()) == [Status.CANCELLED, Status.COMPLETED]
    nothing_is_left(turned)


def test_a_run_with_waits_that_are_open_closes_them(turned: World) -> None:
    declared(turned, lambda n: None, cancel_on=CancelOn("job/closed"))
    turned.send([Event(EVENT, {"n": n}) for n in range(2)])
    assert statuses(turned.runs()) == [Status.COMPLETED] * 2
    assert turned.store_rows("SELECT 1 FROM flows_waits WHERE state = 'open'") == []
    nothing_is_left(turned)


def test_who_leaves_while_a_lowered_limit_is_exceeded_lets_nobody_in(turned: World) -> None:
    inside: list[list[tuple[Any, ...]]] = []

    def look(n: int) -> None:
        if n == 0:
            other = turned.process()
            other.flow(name="shop.job", trigger=EVENT, concurrency=1)(lambda ctx: ctx.event.data["n"])
            other.start_worker()
        inside.append(turned.store_rows("SELECT no FROM flows_slots WHERE run_id IS NOT NULL ORDER BY no"))

    declared(turned, look, concurrency=Concurrency(3))
    turned.send([Event(EVENT, {"n": n}) for n in range(6)])
    turned.advance("1m")
    assert [len(numbers) for numbers in inside[:3]] == [3, 2, 1]
    assert statuses(turned.runs()) == [Status.COMPLETED] * 6
    nothing_is_left(turned)
