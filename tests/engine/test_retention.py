"""Retention: whole ended runs past their age go in bounded pieces, and nothing that somebody still needs."""

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest

from celeryflows import Batch, Event, RerunRefused, Status, UnknownRun
from celeryflows.clock import SystemClock, TurnedClock
from celeryflows.console.audit import audit, audited
from celeryflows.durations import DAY
from celeryflows.scheduler.retention import Forgotten, Old, Pruner, forget, old_by_setting
from celeryflows.scheduler.sweeper import NoBroker
from celeryflows.scheduler.tick import Scheduler
from celeryflows.store.workers import WorkerRow
from tests.engine.world import World, memory_store, store_at

TABLES = ("events", "runs", "steps", "waits", "branches", "groups", "replays", "batch_events")


@pytest.fixture
def now() -> TurnedClock:
    """Ids begin with the machine's time, and so does this clock."""
    return TurnedClock(SystemClock().now())


@pytest.fixture
def world(now: TurnedClock) -> Iterator[World]:
    world = World(memory_store(now))
    yield world
    world.close()


@pytest.fixture
def both(store_url: str, now: TurnedClock) -> Iterator[World]:
    """The same on a store of each kind."""
    world = World(store_at(store_url, now))
    yield world
    world.close()


def prune(world: World, days: float = 30, *, dedupe: int = 7 * DAY, piece: int = 200, **more) -> Forgotten:
    """Forget what is older than so many days; how much."""
    at = world.clock.now()
    pieces = list(forget(world.store, Old(at - int(days * DAY), at - dedupe, **more), piece))
    return Forgotten(sum(one.runs for one in pieces), sum(one.events for one in pieces))


def counts(world: World) -> dict[str, int]:
    """The rows that are left in each table, where there are any."""
    with world.store.connection() as connection:
        found = {name: connection.execute(f"SELECT count(*) FROM flows_{name}")[0][0] for name in TABLES}
    return {name: count for name, count in found.items() if count}


def busy_flow(world: World) -> None:
    """A flow with steps and an answered wait."""

    @world.flow(name="f", trigger="go")
    def flow(ctx):
        ctx.step.run("one", lambda: 1)
        return ctx.step.wait_for_event("w", event="come", match="data.x", timeout="1h").data["n"]

    world.start_worker()


def test_an_ended_run_past_its_age_goes_with_all_that_is_its_own(both: World):
    busy_flow(both)
    for n in range(3):
        both.send("go", {"x": n})
        both.send("come", {"x": n, "n": n})
    assert counts(both) == {"events": 6, "runs": 3, "steps": 6, "waits": 3}

    both.advance("29 days")
    assert prune(both) == Forgotten()
    both.advance("2 days")

    assert prune(both) == Forgotten(runs=3, events=6)
    assert counts(both) == {}


@pytest.mark.parametrize("status", ["scheduled", "queued", "suspended", "running"])
def test_a_run_under_way_stays_however_old_it_is(both: World, status):
    @both.flow(name="f", trigger="go")
    def flow(ctx):
        ctx.step.sleep("long", "365 days")

    both.start_worker()
    both.send(Event("go", ts=None))
    run = both.only_run()
    both.advance("100 days")
    with both.store.connection() as connection:
        connection.execute("UPDATE flows_runs SET status = :status", status=status)

    assert prune(both) == Forgotten()
    assert run.status == status
    assert counts(both) == {"events": 1, "runs": 1, "steps": 1}


def test_runs_whose_ids_tell_no_time_go_by_their_end(both: World):
    flow = both.flow(name="f")(lambda ctx: 1)
    both.start_worker()
    for n in range(5):
        flow.apply_async(task_id=f"order-{n}")
    both.drain()
    both.advance("31 days")
    flow.apply_async(task_id="order-new")
    both.drain()

    assert prune(both, piece=2) == Forgotten(runs=5, events=5)
    assert [run.id for run in both.runs()] == ["order-new"]


def test_an_event_stays_while_another_run_was_started_or_answered_by_it(both: World):
    both.flow(name="short", trigger="go")(lambda ctx: 1)

    @both.flow(name="long", trigger="go")
    def long(ctx):
        found = ctx.step.wait_for_event("w", event="come", timeout="1h")
        ctx.step.sleep("rest", "60 days")
        return [ctx.event.data, found.data]

    both.flow(name="listener", trigger="come")(lambda ctx: 1)
    both.start_worker()
    both.send("go", {"a": 1})
    both.send("come", {"b": 2})
    both.advance("31 days")

    assert prune(both) == Forgotten(runs=2, events=0)
    both.advance("30 days")
    assert both.only_run("long").output == [{"a": 1}, {"b": 2}]


def test_the_events_of_a_batch_stay_and_go_with_it(both: World):
    @both.flow(name="b", trigger="go", batch=Batch(2, "1h"))
    def gathered(ctx):
        return len(ctx.events)

    both.start_worker()
    both.send([Event("go"), Event("go")])
    assert both.only_run("b").output == 2
    both.advance("20 days")
    assert prune(both) == Forgotten(0, 0)
    assert len(both.only_run("b").events) == 2
    both.advance("11 days")
    assert prune(both) == Forgotten(1, 2)
    assert counts(both) == {}


def test_events_that_started_nothing_go_too(both: World):
    both.start_worker()
    both.send([Event("nobody/cares", {"n": n}) for n in range(7)])
    both.advance("31 days")
    both.send("nobody/cares")

    assert prune(both, piece=3) == Forgotten(events=7)
    assert counts(both) == {"events": 1}


def test_an_invoked_run_and_its_private_event_go_after_both_have_ended(both: World):
    both.flow(name="child")(lambda ctx: ctx.event.data["n"])
    both.flow(name="parent", trigger="go")(lambda ctx: ctx.step.invoke("ask", "child", {"n": 7}))
    both.start_worker()
    both.send("go")
    assert both.only_run("parent").output == 7
    both.advance("31 days")

    assert prune(both) == Forgotten(runs=2, events=2)
    assert counts(both) == {}


def test_our_own_events_about_ends_and_crons_go_too(world: World):
    world.flow(name="fail", trigger="go", retries=0, on_failure=lambda ctx: 1)(lambda ctx: 1 / 0)
    world.start_worker()
    world.send("go")
    world.advance("31 days")

    assert prune(world) == Forgotten(runs=2, events=2)
    assert counts(world) == {}


def test_what_a_repeat_would_start_anew_stays_as_long_as_its_id_counts(world: World):
    world.flow(name="f", trigger="go")(lambda ctx: 1)
    world.start_worker()
    world.send(Event("go", id="mine"))
    world.advance("3 days")

    assert prune(world, 1) == Forgotten()
    world.send(Event("go", id="mine"))
    assert [run.status for run in world.runs()] == [Status.COMPLETED, Status.SKIPPED]
    world.advance("8 days")

    assert prune(world, 1) == Forgotten(runs=2, events=2)


def related(world: World, parent: str, child: str) -> None:
    """Two runs of one flow, the first the second's parent, in these states."""
    flow = world.flow(name="f")(lambda ctx: 1)
    world.start_worker()
    for name in ("parent", "child"):
        flow.apply_async(task_id=name)
    world.drain()
    with world.store.connection() as connection:
        for name, status in (("parent", parent), ("child", child)):
            connection.execute("UPDATE flows_runs SET status = :status WHERE id = :id", id=name, status=status)
        connection.execute("UPDATE flows_runs SET parent = 'parent' WHERE id = 'child'")
    world.clock.turn(40 * DAY)


@pytest.mark.parametrize(("parent", "child"), [("suspended", "completed"), ("completed", "suspended")])
def test_a_run_stays_while_its_parent_or_its_child_is_under_way(both: World, parent, child):
    related(both, parent, child)

    assert prune(both) == Forgotten()


def test_parent_and_child_go_when_both_have_ended(both: World):
    related(both, "completed", "failed")

    assert prune(both) == Forgotten(runs=2, events=2)


def test_a_run_that_still_owes_somebody_stays(world: World):
    related(world, "completed", "completed")
    with world.store.connection() as connection:
        connection.execute("UPDATE flows_runs SET owes = 'parent' WHERE id = 'child'")

    assert prune(world) == Forgotten(runs=1, events=1)


def test_one_flows_runs_can_go_alone_and_a_dry_walk_only_counts(both: World):
    for name in ("mine", "other"):
        both.flow(name=name, trigger=["go", name])(lambda ctx: 1)
    both.start_worker()
    both.send("go")
    both.send("mine")
    both.send("other")
    both.advance("31 days")
    before = counts(both)

    assert prune(both, flow="mine", dry=True) == Forgotten(runs=2)
    assert counts(both) == before
    assert prune(both, flow="mine", piece=1) == Forgotten(runs=2, events=1)
    assert {run.flow for run in both.runs()} == {"other"}


def test_each_piece_is_bounded(world: World):
    world.flow(name="f", trigger="go")(lambda ctx: 1)
    world.start_worker()
    world.send([Event("go") for _ in range(25)])
    world.advance("31 days")

    at = world.clock.now()
    pieces = list(forget(world.store, Old(at - 30 * DAY, at), piece=10))

    assert [one.runs for one in pieces] == [10, 10, 5]


def test_the_leader_forgets_by_itself_what_is_older_than_the_setting(now: TurnedClock):
    world = World(memory_store(now), retention="30 days")
    try:
        busy_flow(world)
        world.send("go", {"x": 1})
        world.send("come", {"x": 1, "n": 1})
        row = WorkerRow(world.runtime.worker, "shop", world.release(), "host", 1, "solo", "celery")
        scheduler = Scheduler(world.runtime, NoBroker(), row)
        scheduler.start()

        now.turn(29 * DAY)
        scheduler.tick()
        assert counts(world)["runs"] == 1
        now.turn(2 * DAY)
        scheduler.tick()

        assert counts(world) == {}
    finally:
        world.close()


def acted(world: World, subject: str) -> None:
    """Somebody does something."""
    with audited(world.runtime, who="ann", via="page", action="cancel", subject=subject):
        pass


def shown_in_audit(world: World) -> list[str]:
    return [entry.subject for entry in audit(world.runtime).items]


def test_the_leader_forgets_after_a_year_who_did_what_and_no_run(both: World):
    both.flow(name="f", trigger="go")(lambda ctx: 1)
    both.start_worker()
    both.send("go")
    acted(both, "old")
    both.clock.turn(366 * DAY)
    acted(both, "newer")
    pruner = Pruner(both.runtime)
    assert pruner.piece(both.runtime) == 1
    while pruner.piece(both.runtime):
        pass

    assert shown_in_audit(both) == ["newer"]
    assert counts(both) == {"events": 1, "runs": 1}


def test_a_long_audit_goes_in_pieces_by_its_own_age(both: World):
    for n in range(25):
        acted(both, str(n))
    both.clock.turn(10 * DAY)
    acted(both, "newer")
    at = both.clock.now()

    assert list(forget(both.store, Old(at, at, dry=True), piece=10)) == []
    pieces = list(forget(both.store, Old(0, at, audit_before=at - 5 * DAY), piece=10))

    assert [piece.entries for piece in pieces] == [10, 10, 5]
    assert shown_in_audit(both) == ["newer"]


def test_without_the_setting_the_leader_forgets_nothing(world: World):
    world.flow(name="f", trigger="go")(lambda ctx: 1)
    world.start_worker()
    world.send("go")
    row = WorkerRow(world.runtime.worker, "shop", world.release(), "host", 1, "solo", "celery")
    scheduler = Scheduler(world.runtime, NoBroker(), row)
    scheduler.start()
    world.clock.turn(3650 * DAY)
    scheduler.tick()

    assert counts(world) == {"events": 1, "runs": 1}


def test_a_lap_of_the_leader_is_taken_in_pieces_and_begun_anew(now: TurnedClock):
    world = World(memory_store(now), retention="30 days")
    try:
        world.flow(name="f", trigger="go")(lambda ctx: 1)
        world.start_worker()
        pruner = Pruner(world.runtime)
        for _ in range(2):
            world.send("go")
            world.advance("31 days")
            while pruner.piece(world.runtime):
                pass
            assert counts(world) == {}
        assert old_by_setting(world.runtime).before == now.now() - 30 * DAY
    finally:
        world.close()


def test_a_run_that_was_forgotten_is_unknown(world: World):
    flow = world.flow(name="f")(lambda ctx: 1)
    world.start_worker()
    run = world.flows.run(flow.delay().id)
    world.drain()
    world.advance("31 days")
    prune(world)

    with pytest.raises(UnknownRun):
        _ = run.status
    with pytest.raises((UnknownRun, RerunRefused)):
        run.rerun()


def test_a_rerun_that_meets_retention_is_refused_or_whole_and_never_loses_its_event(both: World):
    flow = both.flow(name="f")(lambda ctx: ctx.event.data["n"])
    both.start_worker()
    ids = [flow.delay(n=n).id for n in range(12)]
    both.drain()
    both.clock.turn(31 * DAY)
    again: dict[int, str] = {}

    def rerun_all() -> None:
        for n, run_id in enumerate(ids):
            try:
                again[n] = both.flows.run(run_id).rerun().id
            except UnknownRun:
                continue

    thread = threading.Thread(target=rerun_all)
    thread.start()
    prune(both, piece=1)
    thread.join()
    both.drain()

    assert {n: both.flows.run(run_id).output for n, run_id in again.items()} == {n: n for n in again}


def test_a_wait_reads_its_answer_though_all_that_the_event_started_was_forgotten(both: World):
    @both.flow(name="f", trigger="go")
    def flow(ctx):
        ctx.step.sleep("rest", timedelta(days=40))
        return ctx.step.wait_for_event("w", event="come", lookback="run", timeout="1h").data["n"]

    both.flow(name="listener", trigger="come")(lambda ctx: 1)
    both.start_worker()
    both.send("go")
    both.send("come", {"n": 1})
    both.advance("40 days")

    assert both.only_run("f").output == 1
    assert prune(both, 35) == Forgotten(runs=1, events=0)
