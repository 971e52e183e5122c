"""Promises of a sender's own event id: every repeat is kept, and each flow starts once within the window."""

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from celeryflows import Event, RunCancelled, Status
from celeryflows.store.reports.events import runs_of_events
from tests.engine.world import World, statuses, store_at


def declare(world: World, name: str, trigger: str = "invoice/paid") -> None:
    world.flow(name=name, trigger=trigger)(lambda ctx: ctx.event.data.get("n"))


def started(world: World, flow: str | None = None) -> int:
    return len(world.runs(flow, "completed"))


def test_the_same_id_five_times_is_five_events_and_one_run(world: World) -> None:
    declare(world, "book")

    for n in range(5):
        world.send("invoice/paid", {"n": n}, id="in_1")

    first, *repeats = world.runs()
    assert [event.ext_id for event in world.events()] == ["in_1"] * 5
    assert first.output == 0
    assert statuses(repeats) == [Status.SKIPPED] * 4
    assert {run.reason for run in repeats} == {f"duplicate: event id 'in_1' has started run {first.id}"}


def test_the_same_id_five_times_in_one_list_is_one_run(world: World) -> None:
    declare(world, "book")

    ids = world.send([Event("invoice/paid", {"n": n}, id="in_1") for n in range(5)])

    assert len(set(ids)) == 5
    assert [run.output for run in world.runs(status="completed")] == [0]
    assert len(world.runs(status="skipped")) == 4


def test_two_ids_are_two_runs_and_no_id_is_never_a_repeat(world: World) -> None:
    declare(world, "book")

    world.send([Event("invoice/paid", id="in_1"), Event("invoice/paid", id="in_2")])
    world.send([Event("invoice/paid"), Event("invoice/paid")])

    assert started(world) == 4


def test_each_flow_starts_once_for_an_id(world: World) -> None:
    declare(world, "book")
    declare(world, "mail")

    for _ in range(3):
        world.send("invoice/paid", id="in_1")

    assert (started(world, "book"), started(world, "mail")) == (1, 1)


def test_a_flow_that_is_declared_later_still_runs_for_a_repeat(world: World) -> None:
    declare(world, "book")
    world.send("invoice/paid", id="in_1")
    declare(world, "mail")

    world.send("invoice/paid", id="in_1")

    assert (started(world, "book"), started(world, "mail")) == (1, 1)


def test_a_repeat_that_meets_no_flow_leaves_the_id_free(world: World) -> None:
    world.send("invoice/paid", id="in_1")
    declare(world, "book")

    world.send("invoice/paid", id="in_1")

    assert started(world) == 1


def test_a_skipped_repeat_is_listed_under_its_own_event(world: World) -> None:
    declare(world, "book")

    (first,) = world.send("invoice/paid", id="in_1")
    (second,) = world.send("invoice/paid", id="in_1")

    assert [run.status for run in runs_of_events(world.store, [first])] == ["completed"]
    assert [run.status for run in runs_of_events(world.store, [second])] == ["skipped"]


def test_a_skipped_repeat_ends_at_once_and_tells_its_reason_to_who_waits(world: World) -> None:
    declare(world, "book")
    world.send("invoice/paid", id="in_1")
    world.send("invoice/paid", id="in_1")
    (skipped,) = world.runs(status="skipped")

    assert skipped.ended_at is not None
    with pytest.raises(RunCancelled, match="duplicate: event id 'in_1'"):
        skipped.get(timeout=0)
    assert skipped.cancel() is False


def test_a_repeat_is_a_repeat_though_the_first_failed_or_was_cancelled(world: World) -> None:
    @world.flow(name="book", trigger="invoice/paid", retries=0)
    def book(ctx: Any) -> None:
        raise RuntimeError("no paper")

    world.send("invoice/paid", id="in_1")
    world.send("invoice/paid", id="in_1")

    assert statuses(world.runs()) == [Status.FAILED, Status.SKIPPED]


# --- the window


def test_the_window_is_seven_days_and_fixed_from_the_first(world: World) -> None:
    declare(world, "book")
    world.send("invoice/paid", id="in_1")

    for _ in range(6):
        world.advance("1 day")
        world.send("invoice/paid", id="in_1")
    world.turn_to(world.clock.now() + 86_400_000_000 - 1)
    world.send("invoice/paid", id="in_1")
    assert started(world) == 1

    world.tick()
    world.send("invoice/paid", id="in_1")
    assert started(world) == 2


def test_a_new_window_begins_with_the_run_that_follows(world: World) -> None:
    declare(world, "book")
    for _ in range(15):
        world.send("invoice/paid", id="in_1")
        world.advance("1 day")

    assert started(world) == 3
    assert len(world.runs(status="skipped")) == 12


def test_the_window_is_a_setting(world: World) -> None:
    short = world.process(dedupe="10s")
    short.flow(name="book", trigger="invoice/paid")(lambda ctx: None)

    short.send("invoice/paid", id="in_1")
    world.clock.turn(9_999_999)
    short.send("invoice/paid", id="in_1")
    assert len(world.runs(status="skipped")) == 1

    world.clock.turn(1)
    short.send("invoice/paid", id="in_1")
    assert len(world.runs(status="skipped")) == 1


# --- many senders at once


def test_senders_at_once_with_the_same_ids_start_each_once(store_url: str) -> None:
    world = World(store_at(store_url))
    declare(world, "book")
    declare(world, "mail")
    world.start_worker()
    ids = [f"in_{n}" for n in range(12)]

    def send_all(seed: int) -> None:
        mine = random.Random(seed).sample(ids, len(ids))
        world.flows.send([Event("invoice/paid", id=event_id) for event_id in mine])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(send_all, range(12)))

    by_flow = {name: world.runs(name, "queued") for name in ("book", "mail")}
    assert {name: sorted(run.events[0].id for run in runs) for name, runs in by_flow.items()} == {
        "book": sorted(ids),
        "mail": sorted(ids),
    }
    assert len(world.runs(status="skipped")) == 2 * 12 * 11
    world.close()
