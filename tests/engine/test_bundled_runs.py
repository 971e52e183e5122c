"""Runs of one bundle: the end of one claims the next, and whatever comes between, each ends once."""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from celeryflows import Event, Status, StoreUnavailable
from celeryflows.engine.bundled_runs import BundledRuns
from celeryflows.engine.turn import take_turn
from celeryflows.signals import RunNews, run_started
from tests.engine.bundles import CARRIER, bundle_of, take_bundle
from tests.engine.world import World, statuses
from tests.store.lossy import Break, LossyStore

EVENT = "job/asked"


def declared(world: World, body: Callable[[int], object] = lambda n: None, **options: Any) -> None:
    @world.flow(name="shop.job", trigger=EVENT, **options)
    def job(ctx: Any) -> int:
        body(ctx.event.data["n"])
        return ctx.step.run("n", lambda: ctx.event.data["n"])  # type: ignore[no-any-return]

    world.start_worker()


def sent(world: World, count: int) -> list[str]:
    """So many runs, whose messages are taken from the list."""
    known = {run.id for run in world.runs()}
    world.flows.send([Event(EVENT, {"n": n}) for n in range(count)])
    world.broker.waiting.clear()
    return [run.id for run in world.runs() if run.id not in known]


def status(world: World, run: str) -> str:
    return str(world.flows.run(run).status)


def is_claimed(world: World, run: str) -> bool:
    """True when the bundle holds it."""
    rows = world.store_rows("SELECT 1 FROM flows_runs WHERE id = :id AND carrier = :by", id=run, by=CARRIER)
    return status(world, run) == Status.RUNNING and bool(rows)


def claims_with_an_end(world: World) -> bool:
    return world.store.dialect.has_writing_ctes


@pytest.mark.parametrize("link", ["statement", "before", "after", "during"])
def test_whatever_breaks_in_a_bundle_each_run_ends_once(lossy: World, link: Break) -> None:
    store = lossy.store
    assert isinstance(store, LossyStore)
    ends: Counter[str] = Counter()
    declared(lossy)
    at, reached = 0, True
    while reached:
        runs = sent(lossy, 3)
        store.break_link(link, at)
        with suppress(StoreUnavailable):
            # What is looked at after an end may be what breaks.
            ends.update(run for run, end in zip(runs, take_bundle(lossy.runtime, runs), strict=False) if end.status)
        reached = len(store.statements if link == "statement" else store.commits) > at
        store.break_link("after", -1)
        lossy.drain()
        lossy.advance("1m")
        assert {status(lossy, run) for run in runs} == {Status.COMPLETED}, (at, store.commits)
        at += 1
    assert at > 6
    assert max(ends.values()) == 1
    recorded = lossy.store_rows("SELECT count(*) FROM flows_steps WHERE state = 'done'")
    assert recorded == [(3 * at,)]


def test_a_claim_whose_reply_was_lost_is_the_bundles_all_the_same(lossy: World) -> None:
    store = lossy.store
    assert isinstance(store, LossyStore)
    declared(lossy)
    runs = sent(lossy, 2)
    # The claim, the step, and the end with which the next one is claimed.
    store.break_link("after", 2)
    ends = take_bundle(lossy.runtime, runs)
    assert [end.status for end in ends] == [Status.COMPLETED] * 2
    assert lossy.store_rows("SELECT turn FROM flows_runs") == [(1,), (1,)]
    assert not lossy.broker.waiting


def test_what_was_claimed_is_given_back_when_the_task_before_it_takes_its_time(turned: World) -> None:
    started: list[str] = []

    def hears(_: Any, run: RunNews) -> None:
        started.append(run.run_id)

    declared(turned)
    runs = sent(turned, 2)

    def takes_its_time(bundled: BundledRuns, run: str) -> None:
        assert is_claimed(turned, runs[1]) == claims_with_an_end(turned)
        bundled.release()
        assert status(turned, runs[1]) == Status.QUEUED
        assert turned.store_rows("SELECT turn, started_at FROM flows_runs WHERE id = :id", id=runs[1]) == [(0, None)]

    with run_started.connected_to(hears):
        ends = take_bundle(turned.runtime, runs, takes_its_time)
        assert [end.status for end in ends] == [Status.COMPLETED]
        assert [one.run_id for one in turned.broker.waiting] == [runs[1]]
        turned.drain()
    assert started == runs
    assert statuses(turned.runs()) == [Status.COMPLETED] * 2
    assert turned.store_rows("SELECT DISTINCT turn, lost FROM flows_runs") == [(1, 0)]


def test_a_run_that_was_claimed_twice_over_is_not_taken_back(turned: World) -> None:
    """Who gives back too late gives nothing back."""
    declared(turned)
    runs = sent(turned, 2)
    bundled = bundle_of(turned.runtime, runs)
    assert bundled.begin()
    take_turn(turned.runtime, runs[0], bundled=bundled)
    with turned.store.connection() as connection:
        connection.execute(
            "UPDATE flows_runs SET status = 'running', claim_tok = 7, worker = 'other', turn = 1 WHERE id = :id",
            id=runs[1],
        )
    bundled.release()
    assert turned.store_rows("SELECT status, claim_tok, worker, turn FROM flows_runs WHERE id = :id", id=runs[1]) == [
        ("running", 7, "other", 1)
    ]


def test_a_run_that_was_cancelled_meanwhile_is_passed_by(turned: World) -> None:
    def cancels_the_next(n: int) -> None:
        if n == 0:
            turned.runs()[1].cancel()

    declared(turned, cancels_the_next)
    ends = take_bundle(turned.runtime, sent(turned, 3))
    assert [end.status for end in ends] == [Status.COMPLETED, None, Status.COMPLETED]
    assert statuses(turned.runs()) == [Status.COMPLETED, Status.CANCELLED, Status.COMPLETED]


def test_an_end_that_is_refused_claims_nothing(turned: World) -> None:
    def is_cancelled(n: int) -> None:
        if n == 0:
            turned.runs()[0].cancel()

    def looks(_: BundledRuns, run: str) -> None:
        if run == runs[0]:
            assert status(turned, runs[1]) == Status.QUEUED

    turned.flow(name="shop.job", trigger=EVENT)(lambda ctx: is_cancelled(ctx.event.data["n"]))
    turned.start_worker()
    runs = sent(turned, 2)
    assert [end.status for end in take_bundle(turned.runtime, runs, looks)] == [Status.CANCELLED, Status.COMPLETED]


def test_a_run_that_is_cancelled_after_its_claim_stops_at_its_first_boundary(turned: World) -> None:
    declared(turned)
    runs = sent(turned, 2)

    def cancels(_: BundledRuns, run: str) -> None:
        if run == runs[0]:
            turned.flows.run(runs[1]).cancel()

    first, second = take_bundle(turned.runtime, runs, cancels)
    assert (first.status, second.status) == (
        Status.COMPLETED,
        Status.CANCELLED if claims_with_an_end(turned) else None,
    )
    assert statuses(turned.runs()) == [Status.COMPLETED, Status.CANCELLED]
    assert turned.store_rows("SELECT count(*) FROM flows_steps WHERE state = 'done'") == [(1,)]


def test_a_run_that_has_to_start_by_a_moment_keeps_it_until_its_own_turn(turned: World) -> None:
    declared(turned)
    runs = sent(turned, 2)
    with turned.store.connection() as connection:
        connection.bounds.set_start([runs[1]], 60_000_000)

    def looks(bundled: BundledRuns, run: str) -> None:
        if run == runs[0]:
            assert status(turned, runs[1]) == Status.QUEUED
            assert turned.store_rows("SELECT expires_at IS NULL FROM flows_runs WHERE id = :id", id=runs[1])[0][0] in (
                False,
                0,
            )

    assert len(take_bundle(turned.runtime, runs, looks)) == 2
    assert statuses(turned.runs()) == [Status.COMPLETED] * 2


def test_a_worker_that_stops_claims_no_more(turned: World) -> None:
    declared(turned)
    runs = sent(turned, 2)
    bundled = bundle_of(turned.runtime, runs)
    stops = iter([False, True])
    assert bundled.begin()
    take_turn(turned.runtime, runs[0], lambda: next(stops, True), bundled=bundled)
    assert status(turned, runs[1]) == Status.QUEUED
    bundled.release()
    assert [one.run_id for one in turned.broker.waiting] == [runs[1]]


def test_what_a_claimed_run_waits_for_counts_from_its_claim(turned: World) -> None:
    """However long the task before it went on behind its turn."""
    declared(turned)
    runs = sent(turned, 2)

    def goes_on(bundled: BundledRuns, run: str) -> None:
        if run == runs[0]:
            turned.clock.turn(3_000_000)

    take_bundle(turned.runtime, runs, goes_on)
    (began,) = turned.store_rows("SELECT began FROM flows_steps WHERE run_id = :id", id=runs[1])
    (started,) = turned.store_rows("SELECT started_at FROM flows_runs WHERE id = :id", id=runs[1])
    assert began == started
