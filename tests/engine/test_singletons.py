"""Singletons: one run at a time for each value of a key; the next is skipped, or takes its place."""

from typing import Any

import pytest

from celeryflows import Event, Singleton, Status
from celeryflows.durations import to_datetime
from celeryflows.engine import routing
from celeryflows.engine.resume import wake_due
from tests.engine.world import NEW_YEAR, World, statuses

EVENT = "sync/asked"
SLEEPING, DONE, SKIPPED, CANCELLED = Status.SUSPENDED, Status.COMPLETED, Status.SKIPPED, Status.CANCELLED


def declared(world: World, singleton: Singleton, **options: Any) -> Any:
    @world.flow(name="shop.sync", trigger=EVENT, singleton=singleton, **options)
    def sync(ctx: Any) -> Any:
        if ctx.event.data.get("fails") and ctx.attempt < 1:
            raise ValueError("not yet")
        ctx.step.sleep("work", "1m")
        return ctx.event.data.get("n")

    world.start_worker()
    return sync


def test_of_three_one_runs_and_the_others_are_skipped_naming_it(turned: World) -> None:
    declared(turned, Singleton("skip"))
    for n in range(3):
        turned.send(EVENT, {"n": n})
    first, *others = turned.runs()
    assert statuses(turned.runs()) == [SLEEPING, SKIPPED, SKIPPED]
    assert {run.reason for run in others} == {f"singleton: run {first.id} is there"}
    turned.advance("1m")
    turned.send(EVENT, {"n": 3})
    assert statuses(turned.runs()) == [DONE, SKIPPED, SKIPPED, SLEEPING]


def test_of_three_the_last_runs_and_the_others_are_cancelled_naming_the_next(turned: World) -> None:
    declared(turned, Singleton("cancel"))
    for n in range(3):
        turned.send(EVENT, {"n": n})
    runs = turned.runs()
    assert statuses(runs) == [CANCELLED, CANCELLED, SLEEPING]
    assert [run.reason for run in runs[:2]] == [f"singleton: replaced by run {run.id}" for run in runs[1:]]
    turned.advance("1m")
    assert runs[2].output == 2


@pytest.mark.parametrize(
    ("mode", "ends"), [("skip", [SLEEPING, SKIPPED, SKIPPED]), ("cancel", [CANCELLED, CANCELLED, SLEEPING])]
)
def test_a_list_of_events_is_as_one_after_the_other(turned: World, mode: Any, ends: list[Status]) -> None:
    declared(turned, Singleton(mode))
    turned.send([Event(EVENT, {"n": n}) for n in range(3)])
    turned.run_due()
    assert statuses(turned.runs()) == ends


def test_keys_are_apart_and_a_null_key_means_none(turned: World) -> None:
    declared(turned, Singleton("skip", key="event.data.user"))
    for user in ("a", "b", "a", None, None):
        turned.send(EVENT, {"user": user})
    assert statuses(turned.runs()) == [SLEEPING, SLEEPING, SKIPPED, SLEEPING, SLEEPING]
    assert 'for "a"' in (turned.runs()[2].reason or "")


def test_a_run_that_is_tried_again_keeps_its_place(turned: World) -> None:
    declared(turned, Singleton("skip"))
    turned.send(EVENT, {"fails": True})
    turned.send(EVENT, {"n": 2})
    assert statuses(turned.runs()) == [SLEEPING, SKIPPED]


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
def test_every_end_of_the_run_frees_it(turned: World, end: str) -> None:
    @turned.flow(name="shop.sync", trigger=EVENT, singleton=Singleton("skip"), retries=0)
    def sync(ctx: Any) -> None:
        ctx.step.sleep("work", "1m")
        if end == "failed":
            raise ValueError("no")

    turned.start_worker()
    turned.send(EVENT)
    if end == "cancelled":
        turned.only_run().cancel()
    turned.advance("1m")
    turned.send(EVENT)
    assert statuses(turned.runs()) == [Status(end), SLEEPING]


def test_a_run_that_goes_on_as_another_keeps_its_place(turned: World) -> None:
    @turned.flow(name="shop.sync", trigger=EVENT, singleton=Singleton("skip"))
    def sync(ctx: Any) -> None:
        ctx.step.sleep("work", "1m")
        if not ctx.event.data.get("again"):
            ctx.continue_as_new({"again": True})

    turned.start_worker()
    turned.send(EVENT)
    turned.advance("90s")
    turned.send(EVENT)
    assert statuses(turned.runs()) == [DONE, SLEEPING, SKIPPED]
    turned.advance("1m")
    turned.send(EVENT)
    assert statuses(turned.runs())[3] == SLEEPING


def test_a_scheduled_run_takes_its_place_when_its_time_comes(turned: World) -> None:
    declared(turned, Singleton("skip"))
    later = to_datetime(NEW_YEAR + 30_000_000)
    turned.send(Event(EVENT, {"n": "later"}, ts=later))
    turned.send(EVENT, {"n": "now"})
    assert sorted(statuses(turned.runs())) == [Status.SCHEDULED, SLEEPING]
    turned.advance("30s")
    skipped = turned.runs(status="skipped")
    assert [run.reason for run in skipped] == [f"singleton: run {turned.runs(status='suspended')[0].id} is there"]


def test_a_scheduled_run_replaces_what_is_there_when_its_time_comes(turned: World) -> None:
    declared(turned, Singleton("cancel"))
    turned.send(Event(EVENT, {"n": "later"}, ts=to_datetime(NEW_YEAR + 30_000_000)))
    turned.send(EVENT, {"n": "now"})
    turned.advance("30s")
    (old,) = turned.runs(status="cancelled")
    (new,) = turned.runs(status="suspended")
    assert old.reason == f"singleton: replaced by run {new.id}"


def test_a_paused_flow_ends_nothing(turned: World) -> None:
    sync = declared(turned, Singleton("cancel"))
    turned.send(EVENT)
    turned.flows.pause(sync)
    turned.send(EVENT)
    assert statuses(turned.runs()) == [SLEEPING, SKIPPED]


def test_who_replaced_it_may_die_before_the_cancel_and_the_leader_cancels(
    turned: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared(turned, Singleton("cancel"))
    turned.send(EVENT, {"n": 1})
    with monkeypatch.context() as dead:
        dead.setattr(routing, "end_replaced", lambda *_: None)
        turned.flows.send(EVENT, {"n": 2})
    turned.run_due()
    old, new = turned.runs()
    assert statuses([old, new]) == [CANCELLED, SLEEPING]
    assert old.reason == f"singleton: replaced by run {new.id}"


def test_one_that_was_replaced_begins_no_other_turn_though_nobody_has_cancelled_it_yet(
    turned: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared(turned, Singleton("cancel"))
    turned.send(EVENT, {"n": 1})
    (old,) = turned.runs()
    turned.clock.turn(60_000_000)
    wake_due(turned.runtime)
    with monkeypatch.context() as dead:
        dead.setattr(routing, "end_replaced", lambda *_: None)
        turned.flows.send(EVENT, {"n": 2})
    turned.drain()
    assert statuses(turned.runs()) == [Status.QUEUED, SLEEPING]
    turned.run_due()
    assert old.status == CANCELLED


def test_who_replaced_it_may_die_while_the_old_one_goes_on_as_another(
    turned: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace_and_die() -> None:
        with monkeypatch.context() as dead:
            dead.setattr(routing, "end_replaced", lambda *_: None)
            turned.flows.send(EVENT, {"n": 2})

    @turned.flow(name="shop.sync", trigger=EVENT, singleton=Singleton("cancel"))
    def sync(ctx: Any) -> None:
        if ctx.event.data["n"] == 1:
            ctx.step.run("replace and die", replace_and_die)
            ctx.continue_as_new({"n": 3})
        ctx.step.sleep("work", "1m")

    turned.start_worker()
    turned.send(EVENT, {"n": 1})
    turned.run_due()
    stands = {run.events[0].data["n"]: (run.status, run.reason) for run in turned.runs()}
    new = next(run for run in turned.runs() if run.events[0].data["n"] == 2)
    assert stands == {1: (DONE, None), 2: (SLEEPING, None), 3: (CANCELLED, f"singleton: replaced by run {new.id}")}


def test_keys_of_ended_runs_are_forgotten_and_others_kept(turned: World) -> None:
    declared(turned, Singleton("skip", key="event.data.user"))
    turned.send(EVENT, {"user": "a"})
    turned.advance("1m")
    turned.send(EVENT, {"user": "b"})
    turned.store_rows("SELECT 1")
    with turned.store.begin() as tx:
        tx.singletons.prune("")
    assert len(turned.store_rows("SELECT key FROM flows_singletons")) == 1
    turned.send(EVENT, {"user": "b"})
    assert statuses(turned.runs()) == [DONE, SLEEPING, SKIPPED]
