"""Debounce with batch: each key's newest event goes into the batch once it has been quiet, and no other does."""

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest

from celeryflows import (
    Batch,
    CancelOn,
    Concurrency,
    Debounce,
    Event,
    RunCancelled,
    Status,
    StoreUnavailable,
    Throttle,
)
from celeryflows.clock import TurnedClock
from celeryflows.console.history import export
from celeryflows.console.limits import limits
from celeryflows.engine.closing import close_due
from celeryflows.store.reports.events import runs_of_events
from celeryflows.store.runs import Runs
from celeryflows.testing import FlowsTester, check_history
from tests.engine.sealed import NEW, SECRET, raw, use
from tests.engine.world import NEW_YEAR, World, statuses, store_at
from tests.store.lossy import Break, LossyStore

EVENT = "doc/edited"
OPTIONS: dict[str, Any] = {"debounce": Debounce("10s", key="event.data.doc"), "batch": Batch(3, "1m")}


def declared(world: World, **options: Any) -> Any:
    @world.flow(name="shop.index", trigger=EVENT, **(OPTIONS | options))
    def index(ctx: Any) -> Any:
        assert ctx.event == ctx.events[0]
        return [event.data["n"] for event in ctx.events]

    world.start_worker()
    return index


def edits(*numbers: str, **more: Any) -> list[Event]:
    """`a1` is the first edit of document a."""
    return [Event(EVENT, {"n": n, "doc": n[0], **more}) for n in numbers]


def outputs(world: World) -> list[Any]:
    return [run.output for run in world.runs("shop.index") if run.status == Status.COMPLETED]


def test_of_each_key_the_newest_goes_into_the_batch_when_it_is_quiet(turned: World) -> None:
    declared(turned)
    turned.send(edits("a1", "b1", "a2"))
    turned.advance("5s")
    turned.send(edits("b2", "c1"))
    turned.advance("9s")
    assert outputs(turned) == []
    turned.advance("1s")
    assert sorted(outputs(turned)[0]) == ["a2", "b2", "c1"]


def test_a_batch_that_is_not_full_starts_by_its_own_time_from_its_first_event_on(turned: World) -> None:
    declared(turned)
    turned.send(edits("a1", "b1"))
    turned.advance("69s")
    assert outputs(turned) == []
    turned.advance("1s")
    assert sorted(outputs(turned)[0]) == ["a1", "b1"]


def test_the_same_key_may_be_in_a_batch_again_after_a_quiet_time(turned: World) -> None:
    declared(turned)
    for n in ("a1", "a2", "a3"):
        turned.send(edits(n))
        turned.advance("10s")
    assert outputs(turned) == [["a1", "a2", "a3"]]


def test_the_timeout_of_a_debounce_brings_its_newest_into_the_batch(turned: World) -> None:
    declared(turned, debounce=Debounce("10s", key="event.data.doc", timeout="20s"), batch=Batch(2, "1m"))
    for n in range(8):
        turned.send(edits(f"a{n}"))
        turned.advance("5s")
    turned.advance("1m")
    assert outputs(turned) == [["a3", "a7"]]


def test_the_keys_of_batches_are_apart(turned: World) -> None:
    declared(turned, batch=Batch(2, "1m", key="event.data.of"))
    turned.send([*edits("a1", "b1", of="x"), *edits("c1", "d1", of="y"), *edits("e1", of="x")])
    turned.advance("70s")
    assert sorted(len(one) for one in outputs(turned)) == [1, 2, 2]
    of_x = [{n for n in one if n[0] in "abe"} for one in outputs(turned)]
    assert sorted(map(len, of_x)) == [0, 1, 2]
    assert {n for one in outputs(turned) for n in one} == {"a1", "b1", "c1", "d1", "e1"}


def test_what_does_not_belong_to_a_batch_goes_alone(turned: World) -> None:
    declared(turned, batch=Batch(3, "1m", if_exp="event.data.doc != 'z'"))
    turned.send(edits("z1", "z2", "a1"))
    turned.advance("10s")
    assert outputs(turned) == [["z2"]]
    turned.advance("1m")
    assert outputs(turned) == [["z2"], ["a1"]]


def test_a_batch_of_one_starts_when_it_is_quiet(turned: World) -> None:
    declared(turned, batch=Batch(1, "1m"))
    turned.send(edits("a1", "a2", "b1"))
    turned.advance("10s")
    assert sorted(outputs(turned)) == [["a2"], ["b1"]]


def test_bytes_fill_it_and_the_next_one_begins(turned: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celeryflows.flow_control.batch.BYTES_BOUND", 1000)
    declared(turned, batch=Batch(100, "1m"))
    turned.send(edits("a1", "b1", "c1", text="x" * 400))
    turned.advance("10s")
    assert len(outputs(turned)[0]) == 2
    turned.advance("1m")
    assert sorted(n for one in outputs(turned) for n in one) == ["a1", "b1", "c1"]


def test_a_debounced_run_that_joined_says_so_and_its_value_is_the_batchs(turned: World) -> None:
    index = declared(turned)
    first, replaced, second = index.delay(n="a1", doc="a"), index.delay(n="b1", doc="b"), index.delay(n="b2", doc="b")
    assert replaced.id == second.id != first.id
    turned.advance("70s")
    runs = {run.id: run for run in turned.runs()}
    batch, joined = runs[first.id], runs[second.id]
    if batch.status != Status.COMPLETED:
        batch, joined = joined, batch
    assert (joined.status, joined.reason, joined.continued_as) == (Status.SKIPPED, f"joined run {batch.id}", batch.id)
    assert joined.get(timeout=0) == batch.get(timeout=0)
    assert sorted(batch.output) == ["a1", "b2"]


def test_every_event_lists_the_runs_that_it_went_into_and_the_batch_only_those_that_it_has(turned: World) -> None:
    declared(turned)
    ids = [turned.send(edits(n))[0] for n in ("a1", "a2", "b1", "b2")]
    turned.advance("70s")
    (done,) = turned.runs(status="completed")
    assert [event.id for event in done.events] == [ids[1], ids[3]]
    assert turned.store_rows("SELECT batch FROM flows_runs WHERE status = 'completed'") == [(2,)]
    assert into(turned, done.id, ids) == ids
    again = done.rerun()
    turned.drain()
    assert into(turned, again.id, ids) == [ids[1], ids[3]]
    assert outputs(turned) == [["a2", "b2"]] * 2
    exported = [json.loads(line) for line in export(turned.runtime)]
    assert [[event["data"]["n"] for event in one["events"]] for one in exported if "events" in one] == [
        ["a2", "b2"]
    ] * 2


def into(world: World, run_id: str, ids: list[str]) -> list[str]:
    """Those of the events that say that they went into the run."""
    found = {one.event_id for one in runs_of_events(world.store, ids) if one.run_id == run_id}
    return [event_id for event_id in ids if event_id in found]


def test_a_caller_whose_event_came_to_a_batch_of_sent_ones_is_answered(turned: World) -> None:
    declared(turned)

    @turned.flow(name="shop.caller")
    def caller(ctx: Any) -> Any:
        return ctx.step.invoke("index", "shop.index", {"n": "b1", "doc": "b"})

    turned.start_worker()
    turned.send(edits("a1"))
    turned.advance("5s")
    caller.delay()
    turned.drain()
    turned.advance("70s")
    assert turned.only_run("shop.caller").output == ["a1", "b1"]


def test_every_caller_is_answered_whether_its_event_was_the_newest_or_not(turned: World) -> None:
    declared(turned)

    @turned.flow(name="shop.caller")
    def caller(ctx: Any) -> Any:
        n = ctx.event.data["n"]
        return ctx.step.invoke("index", "shop.index", {"n": n, "doc": n[0]})

    turned.start_worker()
    for n in ("a1", "a2", "b1", "b2", "b3"):
        caller.delay(n=n)
    turned.drain()
    turned.advance("70s")
    assert [run.output for run in turned.runs("shop.caller")] == [["a2", "b3"]] * 5


@pytest.mark.parametrize("sent_too", [False, True])
def test_a_cancelled_caller_takes_a_window_with_it_only_when_all_of_it_is_its_own(
    turned: World, sent_too: bool
) -> None:
    declared(turned)

    @turned.flow(name="shop.caller")
    def caller(ctx: Any) -> Any:
        bound = ctx.step.using(cancel_with_parent=True)
        return bound.invoke("index", "shop.index", {"n": "a1", "doc": "a"})

    turned.start_worker()
    run = turned.flows.run(caller.delay().id)
    turned.drain()
    if sent_too:
        turned.send(edits("b1"))
    turned.advance("15s")
    assert run.cancel()
    turned.advance("2m")
    assert outputs(turned) == ([["a1", "b1"]] if sent_too else [])


def test_what_is_cancelled_while_it_is_debounced_is_in_no_batch(turned: World) -> None:
    declared(turned, cancel_on=CancelOn("doc/closed", match="data.doc"))
    turned.send(edits("a1", "b1", "c1"))
    turned.send("doc/closed", {"doc": "a"})
    by_hand = next(run for run in turned.runs() if run.events[0].data["doc"] == "b")
    assert by_hand.cancel()
    turned.advance("70s")
    assert outputs(turned) == [["c1"]]


def test_what_would_cancel_a_run_that_joined_cancels_nothing_any_more(turned: World) -> None:
    declared(turned, cancel_on=CancelOn("doc/closed", match="data.doc"))
    turned.send(edits("a1"))
    turned.advance("5s")
    turned.send(edits("b1"))
    turned.advance("11s")
    turned.send("doc/closed", {"doc": "b"})
    turned.advance("70s")
    assert outputs(turned) == [["a1", "b1"]]


def test_a_batch_that_is_cancelled_while_it_gathers_leaves_what_is_debounced_to_another(turned: World) -> None:
    declared(turned)
    turned.send(edits("a1"))
    turned.advance("5s")
    turned.send(edits("b1"))
    turned.advance("5s")
    assert turned.runs()[0].cancel()
    turned.advance("70s")
    assert outputs(turned) == [["b1"]]


@pytest.mark.parametrize("turned", ["postgres"], indirect=True)
def test_a_batch_that_is_cancelled_while_a_debounce_closes_takes_nothing_with_it(
    turned: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared(turned)
    turned.send(edits("a1"))
    turned.advance("5s")
    turned.send(edits("b1"))
    turned.advance("5s")
    batch = turned.runs()[0]
    lock = Runs.lock

    def a_cancel_comes_first(self: Runs, run_ids: Sequence[str]) -> None:
        monkeypatch.setattr(Runs, "lock", lock)
        assert batch.cancel()
        lock(self, run_ids)

    monkeypatch.setattr(Runs, "lock", a_cancel_comes_first)
    turned.advance("70s")
    assert (batch.status, outputs(turned)) == (Status.CANCELLED, [["b1"]])


def test_a_pause_skips_what_is_debounced_and_what_has_gathered(turned: World) -> None:
    index = declared(turned)
    turned.send(edits("a1"))
    turned.advance("10s")
    turned.send(edits("b1"))
    turned.flows.pause(index)
    turned.advance("70s")
    assert {(run.status, run.reason) for run in turned.runs()} == {(Status.SKIPPED, "paused")}


def test_an_idempotency_value_is_in_a_batch_once(turned: World) -> None:
    declared(turned, idempotency="event.data.v")
    turned.send(edits("a1", v=1))
    turned.advance("10s")
    turned.send([*edits("b1", v=1), *edits("c1", v=2)])
    turned.advance("10s")
    turned.send(edits("d1", v=2))
    turned.advance("70s")
    assert outputs(turned) == [["a1", "c1"]]
    (done,) = turned.runs(status="completed")
    reasons = sorted(run.reason or "" for run in turned.runs(status="skipped"))
    assert reasons == [
        f"duplicate: idempotency key 1 has started run {done.id}",
        f"duplicate: idempotency key 2 has started run {done.id}",
        f"joined run {done.id}",
    ]


def test_a_batch_passes_the_gates_of_its_first_event(turned: World) -> None:
    declared(
        turned, concurrency=Concurrency(1, key="event.data.doc"), throttle=Throttle(1, "30s"), batch=Batch(2, "1m")
    )
    turned.send(edits("a1", "b1"))
    turned.advance("5s")
    turned.send(edits("c1", "d1"))
    turned.advance("10s")
    assert len(outputs(turned)) == 1
    turned.advance("30s")
    assert len(outputs(turned)) == 2
    gates = turned.store_rows("SELECT DISTINCT g1 FROM flows_runs WHERE status = 'completed'")
    assert len(gates) == 2
    assert turned.store_rows("SELECT 1 FROM flows_slots WHERE run_id IS NOT NULL") == []


def test_a_replay_of_what_was_skipped_leaves_what_joined_a_batch(turned: World) -> None:
    declared(turned)
    turned.send(edits("a1", "b1"))
    turned.advance("70s")
    assert sorted(statuses(turned.runs())) == [Status.COMPLETED, Status.SKIPPED]
    replay = turned.flows.replay("shop.index", status="skipped")
    turned.run_due()
    turned.advance("10s")
    assert (replay.total, replay.done, len(turned.runs())) == (0, 0, 2)


def test_who_waits_for_a_batch_that_is_cancelled_hears_of_it(turned: World) -> None:
    index = declared(turned)
    first = index.delay(n="a1", doc="a")
    turned.advance("5s")
    second = index.delay(n="b1", doc="b")
    turned.advance("11s")
    assert turned.flows.run(first.id).cancel()
    with pytest.raises(RunCancelled):
        turned.flows.run(second.id).get(timeout=0)


def test_whatever_breaks_while_windows_close_each_newest_event_is_in_one_batch(store_url: str) -> None:
    store_at(store_url).dispose()
    store = LossyStore(store_url, clock=TurnedClock(NEW_YEAR))
    world = World(store)
    declared(world, batch=Batch(2, "1h"))
    wanted: list[list[str]] = []

    def close(link: Break, at: int) -> bool:
        """With the link broken there; False when it was never used so often."""
        n = len(wanted)
        world.flows.send(edits(f"a{n}-old", f"a{n}", f"b{n}"))
        world.clock.turn(10_000_000)
        store.break_link(link, at)
        for _ in range(2):
            with suppress(StoreUnavailable):
                close_due(world.runtime)
        reached = len(store.statements if link == "statement" else store.commits) > at
        store.break_link("after", -1)
        wanted.append([f"a{n}", f"b{n}"])
        return reached

    for link in ("statement", "before", "after", "during"):
        at = 0
        while close(link, at):
            at += 1
        assert at > 1
    world.run_due()
    assert sorted(sorted(one) for one in outputs(world)) == sorted(wanted)
    world.close()


def test_its_payloads_are_encrypted_and_the_desk_shows_its_keys(turned: World) -> None:
    use(turned, NEW)
    declared(turned, debounce=Debounce("10s", key="event.data.card"), batch=Batch(2, "1m", key="event.data.card"))
    turned.send(edits("a1", "a2", card=SECRET))
    assert [(one.kind, one.value) for one in limits(turned.runtime)] == [("debounce", SECRET)]
    turned.advance("10s")
    turned.send(edits("b1", card=SECRET))
    assert {(one.kind, one.value) for one in limits(turned.runtime)} == {("debounce", SECRET), ("batch", SECRET)}
    turned.advance("10s")
    assert outputs(turned) == [["a2", "b1"]]
    assert SECRET not in raw(turned)


def indexing(process: Any, word: str) -> None:
    """A step for each event of the batch, named by the word."""

    @process.flow(name="shop.index", trigger=EVENT, **OPTIONS)
    def index(ctx: Any) -> Any:
        for event in ctx.events:
            ctx.step.run(f"{word} {event.data['n']}", int)

    process.start_worker()


def test_a_history_of_it_is_that_of_its_batch(turned: World) -> None:
    indexing(turned, "index")
    turned.send(edits("a1", "a2", "b1"))
    turned.advance("70s")
    same, other = turned.process(), turned.process()
    indexing(same, "index")
    indexing(other, "drop")
    assert check_history(same.flows).differences == ()
    assert {finding.step for run in check_history(other.flows) for finding in run.findings} == {"drop a2"}


def test_the_test_kit_plays_it(flows: Any, flows_tester: FlowsTester) -> None:
    @flows.flow(trigger=EVENT, **OPTIONS)
    def index(ctx: Any) -> Any:
        return sorted(event.data["n"] for event in ctx.events)

    flows_tester.send(edits("a1", "b1", "a2"))
    flows_tester.advance("10s")
    flows_tester.advance("1m")
    assert [run.output for run in flows_tester.runs() if run.status == Status.COMPLETED] == [["a2", "b1"]]
