"""Batches: one run for many events, when they are enough or their time is over."""

from typing import Any

import pytest

from celeryflows import Batch, CancelOn, Event, Status, Timeouts
from celeryflows.flow_control import batch as rule
from celeryflows.store.reports.events import runs_of_events
from tests.engine.world import World, statuses

EVENT = "log/line"


def declared(world: World, **options: Any) -> Any:
    @world.flow(name="shop.store", trigger=EVENT, **options)
    def keep(ctx: Any) -> Any:
        assert ctx.event == ctx.events[0]
        return [event.data.get("n") for event in ctx.events]

    world.start_worker()
    return keep


def values(world: World) -> list[Any]:
    return [run.output for run in world.runs("shop.store")]


def lines(*numbers: int, **more: Any) -> list[Event]:
    return [Event(EVENT, {"n": n, **more}) for n in numbers]


def test_it_runs_at_once_when_it_is_full_and_the_rest_at_the_timeout(turned: World) -> None:
    declared(turned, batch=Batch(3, "10s"))
    for n in range(5):
        turned.send(lines(n))
    assert values(turned) == [[0, 1, 2], None]
    turned.advance("9s")
    assert values(turned) == [[0, 1, 2], None]
    turned.advance("1s")
    assert values(turned) == [[0, 1, 2], [3, 4]]


def test_a_list_of_events_fills_as_many_as_it_can(turned: World) -> None:
    declared(turned, batch=Batch(3, "10s"))
    turned.send(lines(0))
    turned.send(lines(*range(1, 8)))
    assert values(turned) == [[0, 1, 2], [3, 4, 5], None]
    turned.advance("10s")
    assert values(turned)[2] == [6, 7]


def test_keys_are_apart(turned: World) -> None:
    declared(turned, batch=Batch(2, "10s", key="event.data.of"))
    turned.send([*lines(1, of="a"), *lines(2, of="b"), *lines(3, of="a"), *lines(4, of="b"), *lines(5, of="a")])
    turned.advance("10s")
    assert sorted(values(turned)) == [[1, 3], [2, 4], [5]]


def test_ten_events_of_which_five_fit_are_five_in_one_and_five_alone(turned: World) -> None:
    declared(turned, batch=Batch(100, "10s", if_exp="event.data.n % 2 == 0"))
    turned.send(lines(*range(10)))
    assert sorted(run for run in values(turned) if run) == [[1], [3], [5], [7], [9]]
    turned.advance("10s")
    assert [run for run in values(turned) if run and len(run) > 1] == [[0, 2, 4, 6, 8]]


def test_the_same_event_twice_is_in_it_once(turned: World) -> None:
    declared(turned, batch=Batch(2, "10s"))
    turned.send([Event(EVENT, {"n": 1}, id="one"), Event(EVENT, {"n": 1}, id="one")])
    turned.send(Event(EVENT, {"n": 1}, id="one"))
    turned.advance("10s")
    assert [run.output for run in turned.runs("shop.store") if run.status == Status.COMPLETED] == [[1]]


def test_an_idempotency_value_is_in_it_once(turned: World) -> None:
    declared(turned, batch=Batch(3, "10s"), idempotency="event.data.n")
    turned.send(lines(1, 2, 1, 2, 1))
    turned.advance("10s")
    runs = turned.runs("shop.store")
    assert [run.output for run in runs if run.status == Status.COMPLETED] == [[1, 2]]
    reasons = {run.reason for run in runs if run.status == Status.SKIPPED}
    (there,) = [run for run in runs if run.status == Status.COMPLETED]
    assert reasons == {f"duplicate: idempotency key {n} has started run {there.id}" for n in (1, 2)}


def test_bytes_fill_it_too(turned: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule, "BYTES_BOUND", 1000)
    declared(turned, batch=Batch(100, "10s"))
    for n in range(4):
        turned.send(lines(n, text="x" * 400))
    # The third would have made it too large.
    assert values(turned) == [[0, 1], None]
    turned.advance("10s")
    assert values(turned) == [[0, 1], [2, 3]]


def test_every_caller_that_invoked_into_it_is_answered(turned: World) -> None:
    declared(turned, batch=Batch(3, "10s"))

    @turned.flow(name="shop.caller")
    def caller(ctx: Any) -> Any:
        return ctx.step.invoke("keep", "shop.store", {"n": ctx.event.data["n"]})

    turned.start_worker()
    for n in range(4):
        caller.delay(n=n)
    turned.drain()
    callers = turned.runs("shop.caller")
    assert [run.output for run in callers] == [[0, 1, 2], [0, 1, 2], [0, 1, 2], None]
    turned.advance("10s")
    assert callers[3].output == [3]


def test_two_callers_in_one_turn_are_in_it_both(turned: World) -> None:
    declared(turned, batch=Batch(2, "10s"))

    @turned.flow(name="shop.caller")
    def caller(ctx: Any) -> Any:
        return ctx.group.parallel(
            lambda: ctx.step.invoke("a", "shop.store", {"n": 1}), lambda: ctx.step.invoke("b", "shop.store", {"n": 2})
        )

    turned.start_worker()
    caller.delay()
    turned.drain()
    turned.advance("10s")
    assert turned.only_run("shop.caller").output == [[1, 2], [1, 2]]


def test_a_call_gives_the_run_of_its_batch(turned: World) -> None:
    keep = declared(turned, batch=Batch(2, "10s"))
    first, second, third = keep.delay(n=1), keep.delay(n=2), keep.delay(n=3)
    assert first.id == second.id != third.id
    turned.drain()
    assert values(turned)[0] == [1, 2]


def test_a_batch_that_is_cancelled_while_it_gathers_leaves_the_next_events_to_another(turned: World) -> None:
    declared(turned, batch=Batch(3, "10s"))
    turned.send(lines(1, 2))
    assert turned.only_run().cancel()
    turned.send(lines(3, 4, 5))
    assert [(run.status, run.output) for run in turned.runs()] == [
        (Status.CANCELLED, None),
        (Status.COMPLETED, [3, 4, 5]),
    ]
    turned.advance("10s")
    assert len(turned.runs()) == 2


def test_it_is_cancelled_by_an_event_that_fits_its_first(turned: World) -> None:
    declared(turned, batch=Batch(3, "10s"), cancel_on=CancelOn("log/closed", match="data.n"))
    turned.send(lines(1, 2))
    turned.send("log/closed", {"n": 2})
    turned.send("log/closed", {"n": 1})
    turned.advance("10s")
    assert statuses(turned.runs()) == [Status.CANCELLED]


def test_a_pause_while_it_gathers_skips_it(turned: World) -> None:
    keep = declared(turned, batch=Batch(3, "10s"))
    turned.send(lines(1))
    turned.flows.pause(keep)
    turned.send(lines(2, 3, 4))
    turned.advance("10s")
    assert {(run.status, run.reason) for run in turned.runs()} == {(Status.SKIPPED, "paused")}


def test_timeouts_count_from_the_moment_it_is_full(turned: World) -> None:
    declared(turned, batch=Batch(2, "1m"), timeouts=Timeouts(start="5s"))
    turned.send(lines(1))
    turned.advance("30s")
    turned.send(lines(2))
    assert values(turned) == [[1, 2]]


def test_it_is_listed_under_each_of_its_events_and_lists_them(turned: World) -> None:
    declared(turned, batch=Batch(3, "10s"))
    ids = turned.send(lines(1, 2, 3))
    run = turned.only_run()
    assert [event.id for event in run.events] == ids
    assert {(one.event_id, one.run_id) for one in runs_of_events(turned.store, ids)} == {(i, run.id) for i in ids}


def test_a_rerun_has_the_same_events(turned: World) -> None:
    declared(turned, batch=Batch(3, "10s"))
    turned.send(lines(1, 2, 3))
    turned.only_run().rerun()
    turned.drain()
    assert values(turned) == [[1, 2, 3], [1, 2, 3]]
    turned.flows.replay("shop.store", status="completed")
    turned.run_due()
    turned.advance("1s")
    assert values(turned) == [[1, 2, 3]] * 4


def test_steps_and_the_own_events_of_a_batch_see_all_of_it(turned: World) -> None:
    heard: list[Any] = []

    @turned.flow(name="shop.store", trigger=EVENT, batch=Batch(2, "10s"))
    def keep(ctx: Any) -> Any:
        ctx.step.sleep("while", "1m")
        return ctx.step.run("sum", lambda: sum(event.data["n"] for event in ctx.events))

    @turned.flow(name="shop.ends", trigger="flows/run.completed")
    def ends(ctx: Any) -> None:
        heard.append([event["data"]["n"] for event in ctx.event.data["events"]])

    turned.start_worker()
    turned.send(lines(20, 22))
    turned.advance("1m")
    assert values(turned) == [42]
    assert heard == [[20, 22]]
