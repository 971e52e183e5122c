"""Debounces: the newest event wins, once it has been quiet for the period."""

from datetime import timedelta
from typing import Any

import pytest

from celeryflows import CancelOn, Debounce, Event, RunCancelled, Status, Timeouts
from celeryflows.durations import to_datetime
from celeryflows.engine.closing import close_due
from celeryflows.store.debounces import Debounces
from celeryflows.store.reports.events import runs_of_events
from tests.engine.world import NEW_YEAR, World, statuses

EVENT = "doc/edited"


def declared(world: World, **options: Any) -> Any:
    @world.flow(name="shop.index", trigger=EVENT, **options)
    def index(ctx: Any) -> Any:
        return ctx.event.data.get("n")

    world.start_worker()
    return index


def values(world: World) -> list[Any]:
    return [run.output for run in world.runs("shop.index")]


def at(seconds: float) -> Any:
    return to_datetime(NEW_YEAR) + timedelta(seconds=seconds)


def test_of_many_events_the_newest_runs_once_it_is_quiet(turned: World) -> None:
    declared(turned, debounce=Debounce("10s"))
    for n in range(4):
        turned.send(EVENT, {"n": n})
        turned.advance("9s")
    assert statuses(turned.runs()) == [Status.SCHEDULED]
    turned.advance("1s")
    assert values(turned) == [3]
    turned.send(EVENT, {"n": 4})
    turned.advance("10s")
    assert values(turned) == [3, 4]


def test_an_older_event_that_comes_later_is_ignored_and_puts_nothing_off(turned: World) -> None:
    declared(turned, debounce=Debounce("10s"))
    turned.send(Event(EVENT, {"n": "new"}, ts=at(-5)))
    turned.advance("6s")
    turned.send(Event(EVENT, {"n": "old"}, ts=at(-6)))
    turned.advance("4s")
    assert values(turned) == ["new"]


def test_of_equal_moments_the_later_one_wins_within_a_list_too(turned: World) -> None:
    declared(turned, debounce=Debounce("10s"))
    turned.send([Event(EVENT, {"n": n}, ts=at(-1)) for n in range(3)])
    turned.advance("10s")
    assert values(turned) == [2]


def test_keys_are_apart(turned: World) -> None:
    declared(turned, debounce=Debounce("10s", key="event.data.doc"))
    turned.send([Event(EVENT, {"doc": doc, "n": f"{doc}{n}"}) for n in range(3) for doc in "ab"])
    turned.advance("10s")
    assert sorted(values(turned)) == ["a2", "b2"]


def test_the_timeout_caps_the_postponement(turned: World) -> None:
    declared(turned, debounce=Debounce("10s", timeout="25s"))
    for n in range(10):
        turned.send(EVENT, {"n": n})
        turned.advance("5s")
    # At 25 and at 50 seconds: each with the newest until then.
    assert values(turned) == [4, 9]


def test_a_change_while_it_fires_is_not_lost(turned: World, monkeypatch: pytest.MonkeyPatch) -> None:
    declared(turned, debounce=Debounce("10s"))
    turned.send(EVENT, {"n": 1})
    turned.clock.turn(10_000_000)
    fire = Debounces.fire

    def a_change_comes_first(self: Debounces, key: str, run_id: str) -> bool:
        monkeypatch.setattr(Debounces, "fire", fire)
        # As if it had committed just before the row was locked.
        self._execute("UPDATE flows_debounces SET fire_at = fire_at + 10000000 WHERE key = :key", key=key)
        return fire(self, key, run_id)

    monkeypatch.setattr(Debounces, "fire", a_change_comes_first)
    close_due(turned.runtime)
    assert statuses(turned.runs()) == [Status.SCHEDULED]
    turned.run_due()
    turned.advance("10s")
    assert values(turned) == [1]


def test_an_event_right_after_the_fire_opens_a_new_window(turned: World) -> None:
    declared(turned, debounce=Debounce("10s"))
    turned.send(EVENT, {"n": 1})
    turned.clock.turn(10_000_000)
    close_due(turned.runtime)
    turned.flows.send(EVENT, {"n": 2})
    turned.run_due()
    turned.advance("10s")
    assert values(turned) == [1, 2]


def test_a_repeated_event_id_puts_nothing_off(turned: World) -> None:
    declared(turned, debounce=Debounce("10s"))
    turned.send(EVENT, {"n": 1}, id="one")
    turned.advance("6s")
    turned.send(EVENT, {"n": 1}, id="one")
    turned.advance("4s")
    assert [(run.status, run.output) for run in turned.runs()] == [(Status.COMPLETED, 1), (Status.SKIPPED, None)]


def test_a_call_gives_the_run_that_it_ended_up_in(turned: World) -> None:
    index = declared(turned, debounce=Debounce("10s"))
    first, second = index.delay(n=1), index.delay(n=2)
    assert first.id == second.id
    turned.advance("10s")
    assert values(turned) == [2]


def test_every_caller_that_invoked_it_is_answered(turned: World) -> None:
    declared(turned, debounce=Debounce("10s"))

    @turned.flow(name="shop.caller")
    def caller(ctx: Any) -> Any:
        return ctx.step.invoke("index", "shop.index", {"n": ctx.event.data["n"]})

    turned.start_worker()
    for n in range(3):
        caller.delay(n=n)
    turned.drain()
    turned.advance("10s")
    assert [run.output for run in turned.runs("shop.caller")] == [2, 2, 2]
    assert values(turned) == [2]


def test_a_debounced_run_is_cancelled_by_hand_and_the_next_event_opens_anew(turned: World) -> None:
    declared(turned, debounce=Debounce("10s"))
    turned.send(EVENT, {"n": 1})
    turned.advance("5s")
    assert turned.only_run().cancel()
    turned.send(EVENT, {"n": 2})
    turned.advance("9s")
    assert statuses(turned.runs()) == [Status.CANCELLED, Status.SCHEDULED]
    turned.advance("1s")
    assert values(turned) == [None, 2]
    with pytest.raises(RunCancelled):
        turned.runs()[0].get(timeout=0)


def test_it_is_cancelled_by_what_fits_its_newest_event(turned: World) -> None:
    declared(turned, debounce=Debounce("10s"), cancel_on=CancelOn("doc/closed", match="data.by"))
    turned.send(EVENT, {"n": 1, "by": "ann"})
    turned.send(EVENT, {"n": 2, "by": "bob"})
    turned.send("doc/closed", {"by": "ann"})
    assert statuses(turned.runs()) == [Status.SCHEDULED]
    turned.send("doc/closed", {"by": "bob"})
    turned.advance("20s")
    assert statuses(turned.runs()) == [Status.CANCELLED]


def test_a_pause_while_it_waits_skips_it_when_it_fires(turned: World) -> None:
    index = declared(turned, debounce=Debounce("10s"))
    turned.send(EVENT, {"n": 1})
    turned.flows.pause(index)
    turned.advance("10s")
    run = turned.only_run()
    assert (run.status, run.reason) == (Status.SKIPPED, "paused")


def test_timeouts_start_counts_from_the_fire(turned: World) -> None:
    declared(turned, debounce=Debounce("1m"), timeouts=Timeouts(start="5s"))
    turned.send(EVENT, {"n": 1})
    turned.advance("59s")
    turned.clock.turn(1_000_000)
    close_due(turned.runtime)
    assert statuses(turned.runs()) == [Status.SCHEDULED]
    turned.run_due()
    assert values(turned) == [1]


def test_an_idempotency_key_counts_when_it_fires(turned: World) -> None:
    declared(turned, debounce=Debounce("10s"), idempotency="event.data.n")
    for n in (1, 1, 2, 1):
        turned.send(EVENT, {"n": n})
    turned.advance("10s")
    turned.send(EVENT, {"n": 1})
    turned.advance("10s")
    first, second = turned.runs()
    assert (first.output, second.status) == (1, Status.SKIPPED)
    assert second.reason == f"duplicate: idempotency key 1 has started run {first.id}"


def test_an_event_lists_the_run_that_it_went_into(turned: World) -> None:
    declared(turned, debounce=Debounce("10s"))
    ids = [turned.send(EVENT, {"n": n})[0] for n in range(2)]
    turned.advance("10s")
    run = turned.only_run()
    assert {(one.event_id, one.run_id) for one in runs_of_events(turned.store, ids)} == {(i, run.id) for i in ids}
    assert [event.id for event in run.events] == ids[1:]
