"""Counters and spreads at /metrics: what they tell is what happened, they never go back, and Prometheus likes them."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parsed

from celeryflows import Backoff, Concurrency, Event, RateLimit
from celeryflows.console.counters import counters, limit_gauges
from celeryflows.console.gauges import gauges
from celeryflows.durations import DAY
from celeryflows.engine.resume import requeue
from celeryflows.engine.turn import take_turn
from celeryflows.scheduler.figures import BUCKET, Counter, count_bucket
from celeryflows.store.runs import Held
from flask_dashboard.probes import prometheus_text
from tests.engine.world import World, store_at
from tests.waiting import eventually

Measures = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def shop(migrated_url: str) -> Iterator[World]:
    world = World(store_at(migrated_url))

    @world.flow(name="pay", trigger="order/paid", retries=1, backoff=Backoff(first="1ms", jitter=0))
    def pay(ctx: Any) -> Any:
        ctx.step.run("look up", int, 7)

        def charge() -> int:
            if ctx.event.data["n"] == 0 or (ctx.event.data["n"] == 1 and ctx.attempt == 0):
                raise ValueError("declined")
            return 7

        return ctx.step.run("charge", charge)

    @world.flow(name="scarce", trigger="order/paid", rate_limit=RateLimit(1, "1h"))
    def scarce(ctx: Any) -> None:
        """Runs once an hour."""

    @world.flow(name="one", trigger="order/held", concurrency=Concurrency(1, key="event.data.user"))
    def one(ctx: Any) -> None:
        """One at once for each user."""

    yield world
    world.close()


def counted(world: World, ago: int = 0) -> None:
    """The leader counts the newest buckets, as if they were so old."""
    with world.store.connection() as connection:
        now = connection.now()
    current = now - now % BUCKET
    with world.store.connection() as connection:
        connection.figures.open_buckets([current, current - BUCKET], now)
    for at in (current, current - BUCKET):
        count_bucket(world.runtime, at, now + ago)


def metrics(world: World) -> str:
    runtime = world.runtime
    return prometheus_text([*gauges(runtime), *limit_gauges(runtime), *counters(runtime)]).decode()


def measures(world: World) -> Measures:
    families = parsed(metrics(world))
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def test_what_happened_is_counted_by_flow(shop):
    shop.send([Event("order/paid", {"n": n}) for n in range(4)])

    def all_ended() -> bool:
        shop.run_due()
        return len([run for run in shop.runs("pay") if run.status in ("completed", "failed")]) == 4

    eventually(all_ended)
    counted(shop, BUCKET)
    found = measures(shop)
    pay, scarce = ("flow", "pay"), ("flow", "scarce")
    assert found["celeryflows_runs_created_total", (pay,)] == 4
    assert found["celeryflows_runs_started_total", (pay,)] == 4
    assert found["celeryflows_runs_ended_total", (pay, ("status", "completed"))] == 3
    assert found["celeryflows_runs_ended_total", (pay, ("status", "failed"))] == 1
    assert found["celeryflows_runs_skipped_total", (("by", "rate limit"), scarce)] == 3
    assert found["celeryflows_steps_total", (pay,)] == 8
    assert found["celeryflows_retries_total", (pay,)] == 2
    assert found["celeryflows_events_total", ()] == 4
    assert found["celeryflows_run_duration_seconds_count", (pay,)] == 4
    assert 0 < found["celeryflows_run_duration_seconds_sum", (pay,)] < 60
    assert found["celeryflows_run_duration_seconds_bucket", (pay, ("le", "+Inf"))] == 4
    assert found["celeryflows_run_start_delay_seconds_count", (pay,)] == 4


def test_a_counter_never_goes_back_whoever_counts_again_and_whatever_is_forgotten(shop):
    shop.send([Event("order/paid", {"n": 5}) for _ in range(3)])
    counted(shop, BUCKET)
    before = {key: n for key, n in measures(shop).items() if key[0].endswith(("_total", "_count", "_sum", "_bucket"))}
    counted(shop, BUCKET)
    assert {key: measures(shop)[key] for key in before} == before
    with shop.store.connection() as connection:
        connection.execute("DELETE FROM flows_steps")
        connection.execute("DELETE FROM flows_runs")
    counted(shop, BUCKET)
    shop.store_rows(f"UPDATE flows_figures SET at = at - {91 * DAY} WHERE at > 0 RETURNING 1")
    Counter().forget(shop.runtime)
    assert shop.store_rows("SELECT 1 FROM flows_figures") == []
    assert {key: measures(shop)[key] for key in before} == before


def test_a_turn_that_was_lost_with_its_worker_is_counted(shop):
    shop.flows.send(Event("order/held", {"user": "ann"}))
    delivery = shop.broker.waiting.popleft()
    with shop.store.connection() as connection:
        claim = connection.runs.claim(delivery.run_id, "gone", 7)
    assert claim is not None
    assert requeue(shop.runtime, Held(delivery.run_id, claim.turn, "gone", 7))
    assert measures(shop)["celeryflows_turns_lost_total", (("flow", "one"),)] == 1
    take_turn(shop.runtime, delivery.run_id)


def test_a_limit_tells_how_much_of_it_is_in_use(shop):
    shop.flows.send([Event("order/held", {"user": user}) for user in "aab"])
    of = (("flow", "one"), ("key", "event.data.user"), ("kind", "concurrency"), ("scope", "flow"))
    found = measures(shop)
    told = [found[f"celeryflows_limit_{word}", of] for word in ("used", "fullest", "capacity", "waiting")]
    assert told == [2, 1, 1, 1]


def test_names_and_kinds_are_as_prometheus_wants_them(shop):
    shop.send(Event("order/paid", {"n": 5}))

    def has_ended() -> bool:
        shop.run_due()
        return all(run.status == "completed" for run in shop.runs("pay"))

    eventually(has_ended)
    counted(shop, BUCKET)
    assert "celeryflows_run_seconds_last_hour" in metrics(shop)
    families = list(parsed(metrics(shop)))
    assert {family.type for family in families} == {"gauge", "counter", "histogram", "summary"}
    for family in families:
        assert re.fullmatch(r"celeryflows_[a-z]+(_[a-z]+)*", family.name), family.name
        assert family.documentation.endswith("."), family.name
        # A counter's samples end with _total, and nothing else's.
        ends = {sample.name.endswith("_total") for sample in family.samples}
        assert ends == {family.type == "counter"}, family.name
        assert not re.search(r"_(ms|milliseconds|minutes|count|sum|bucket|gauge|counter)$", family.name), family.name
        # These labels are a histogram's and a summary's alone.
        if family.type in ("gauge", "counter"):
            assert not {"le", "quantile"} & {label for sample in family.samples for label in sample.labels}
        if family.type == "histogram":
            bounds = [
                float(s.labels["le"])
                for s in family.samples
                if s.name.endswith("_bucket") and "pay" in s.labels.values()
            ]
            assert bounds == sorted(bounds)
            assert bounds[-1] == float("inf")
    assert len({family.name for family in families}) == len(families)
