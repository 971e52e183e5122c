"""Promises of figures and failures: what the leader counts is what happened, and runs pay nothing for it."""

from datetime import timedelta
from typing import Any

import pytest

from celeryflows import Backoff, Event
from celeryflows.console.failures import failures
from celeryflows.console.figures import last_day, quantile, series
from celeryflows.console.run_pages import run_page, step_page, with_errors
from celeryflows.durations import DAY, HOUR, MINUTE, SECOND
from celeryflows.scheduler.figures import BUCKET, FRESH, Counter, count_bucket, next_look
from celeryflows.store.figure_tables import CLASSES
from tests.engine.world import World
from tests.waiting import eventually


class Declined(Exception):
    pass


@pytest.fixture
def shop(shared: World) -> World:
    """Orders that are paid, or declined, or wait for a signal."""

    @shared.flow(name="pay", trigger="order/paid", retries=0)
    def pay(ctx: Any) -> Any:
        if ctx.event.data["n"] % 2:
            raise Declined(f"order {ctx.event.data['n']} of 'ann' is declined")
        return ctx.step.run("charge", int, 7)

    @shared.flow(name="ask", trigger="order/asked")
    def ask(ctx: Any) -> Any:
        return ctx.step.wait_for_signal("answer", f"answer {ctx.event.data['n']}", timeout="1 day")

    return shared


def count(world: World) -> None:
    counter = Counter()
    while counter.piece(world.runtime):
        pass
    counter.sample(world.runtime)


def again(world: World) -> None:
    """Count the newest buckets once more, as if their time had come."""
    with world.store.connection() as connection:
        now = connection.now()
    for at in (now - now % BUCKET, now - now % BUCKET - BUCKET):
        count_bucket(world.runtime, at, now)


def test_runs_are_counted_by_flow_by_how_they_ended_and_all_together(shop):
    for n in range(5):
        shop.send(Event("order/paid", {"n": n}))
    shop.send(Event("order/asked", {"n": 1}))
    count(shop)

    paid, asked, both = (series(shop.runtime, flow, "1h").total for flow in ("pay", "ask", ""))
    assert (paid.made, paid.completed, paid.failed, paid.unfinished) == (5, 3, 2, 0)
    assert (asked.made, asked.unfinished) == (1, 1)
    assert (both.made, both.completed, both.failed, both.unfinished) == (6, 3, 2, 1)
    assert paid.p50 is not None
    assert timedelta(0) < paid.p50 <= paid.p95 < timedelta(minutes=1)
    day = last_day(shop.runtime)
    assert sum(day["pay"].runs) == 5
    assert sum(day["pay"].failed) == 2
    assert day["pay"].rate == 0.4


def test_a_run_that_ends_later_is_counted_where_it_was_made_and_what_was_forgotten_is_not_taken_back(shop):
    shop.send(Event("order/paid", {"n": 2}))
    shop.send(Event("order/asked", {"n": 3}))
    count(shop)
    shop.flows.signal("answer 3", "yes")
    shop.drain()
    with shop.store.connection() as connection:
        connection.execute("DELETE FROM flows_runs WHERE flow = 'pay'")
    again(shop)

    total = series(shop.runtime, "", "1h").total
    assert (total.made, total.completed, total.unfinished) == (2, 2, 0)


def test_a_bucket_is_looked_at_ever_more_seldom_and_no_more_once_all_its_runs_have_ended():
    at = 10 * DAY
    assert next_look(at, at + MINUTE, 0, 0) == at + MINUTE + FRESH
    assert next_look(at, at + BUCKET + HOUR, 0, 0) is None
    assert next_look(at, at + BUCKET + HOUR, 1, 0) == at + BUCKET + HOUR + HOUR // 2
    assert next_look(at, at + BUCKET + 3 * DAY, 1, 2 * DAY) is None


def test_a_count_that_is_not_due_costs_one_look(shop):
    count(shop)
    with shop.store.connection() as connection:
        assert connection.figures.due(10) == []


def test_who_waits_is_kept_once_a_minute(shop):
    shop.flows.send([Event("order/paid", {"n": n}) for n in range(3)])
    counter = Counter()
    counter.sample(shop.runtime)
    counter.sample(shop.runtime)
    rows = shop.store_rows("SELECT flow, queued, running FROM flows_backlogs ORDER BY flow")
    assert rows == [("", 3, 0), ("pay", 3, 0)]
    assert max(point.queued or 0 for point in series(shop.runtime, "pay", "1h").points) == 3
    assert max(point.queued or 0 for point in series(shop.runtime, "ask", "1h").points) == 0


def test_a_share_of_durations_lies_within_its_class():
    classes = [0] * len(CLASSES)
    assert quantile(classes, 0.5) is None
    classes[0], classes[3] = 90, 10
    assert quantile(classes, 0.5) < timedelta(milliseconds=10)
    assert timedelta(milliseconds=40) < quantile(classes, 0.95) <= timedelta(milliseconds=80)


def test_failures_are_one_where_only_names_and_numbers_of_the_occurrence_differ(shop):
    for n in (1, 3, 5):
        shop.send(Event("order/paid", {"n": n}))
    found = failures(shop.runtime)
    (group,) = found.groups
    assert (group.flow, group.error.name, group.count, found.looked) == ("pay", "Declined", 3, 3)
    assert group.first_at <= group.last_at
    assert "order 5" in group.error.message
    assert failures(shop.runtime, flow="pay") == found
    none = failures(shop.runtime, flow="ask")
    assert (none.groups, none.looked, none.more) == ((), 0, False)


def test_every_failed_attempt_is_kept_with_its_error_and_what_succeeds_at_once_keeps_none(shared):
    @shared.flow(name="try", trigger="try/it", retries=2, backoff=Backoff(first="1ms", jitter=0))
    def tries(ctx: Any) -> Any:
        def work() -> str:
            if ctx.attempt < 2:
                raise Declined(f"attempt {ctx.attempt}")
            return "worked"

        ctx.step.run("easy", str, "at once")
        worked = ctx.step.run("work", work)
        if ctx.attempt < 1:
            raise Declined("the body too")
        return worked

    shared.send(Event("try/it", {}))
    run = shared.only_run()

    def ended() -> bool:
        shared.run_due()
        return run.status == "completed"

    eventually(ended)
    page = run_page(shared.runtime, run.id)
    assert {key: [one.number for one in tried] for key, tried in page.attempts.items()} == {"work": [1, 2], "": [1]}
    step = step_page(shared.runtime, page, "work")
    assert [one.error.message for one in step.attempts] == ["attempt 0", "attempt 1"]
    assert (step.value, step.error) == ("worked", None)
    assert step_page(shared.runtime, page, "none") is None
    (body,) = with_errors(shared.runtime, page, "")
    assert body.error.message == "the body too"
    assert all(step.value is None for step in page.steps)


def test_old_figures_are_forgotten(shop):
    with shop.store.connection() as connection:
        now = connection.now()
        connection.figures.open_buckets([now - 91 * DAY, now - SECOND], now)
    Counter().forget(shop.runtime)
    assert len(shop.store_rows("SELECT at FROM flows_figures")) == 1
