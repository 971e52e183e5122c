"""The rules of limits with plain values: rates, debounces, batches, singletons, priorities and keys."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeryflows import Batch, Debounce, Priority, RateLimit, Singleton, Throttle
from celeryflows.durations import SECOND
from celeryflows.flow_control import batch, debounce, priority, singleton
from celeryflows.flow_control.keys import Key, key_of
from celeryflows.flow_control.rates import passes, passes_at, skip_reason

KEY = Key("rate_limit", "f", "event.data.u", '"u1"')
MOMENTS = st.lists(st.integers(0, 100 * SECOND), min_size=1, max_size=200).map(sorted)


def passed(limit: RateLimit | Throttle, moments: list[int]) -> list[int]:
    """The moments at which a start passes."""
    tat, found = None, []
    for now in moments:
        after = passes(tat, now, limit.interval, limit.tolerance)
        if after is not None:
            tat = after
            found.append(now)
    return found


@given(MOMENTS, st.integers(1, 50), st.integers(1, 30))
def test_no_window_of_a_period_sees_more_than_2n_minus_1_starts(moments: list[int], limit: int, seconds: int) -> None:
    found = passed(RateLimit(limit, f"{seconds}s"), moments)
    for i, first in enumerate(found):
        window = [at for at in found[i:] if at < first + seconds * SECOND]
        assert len(window) <= 2 * limit - 1 or limit == len(window) == 1


@given(MOMENTS, st.integers(1, 50), st.integers(1, 30))
def test_over_any_time_no_more_pass_than_the_rate_and_the_first_ones(moments: list[int], limit: int, s: int) -> None:
    one = RateLimit(limit, f"{s}s")
    found = passed(one, moments)
    for i, first in enumerate(found):
        for j in range(i, len(found)):
            assert j - i + 1 <= limit + (found[j] - first) // one.interval


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 10))
def test_a_throttle_passes_its_burst_at_once_and_then_one_each_interval(limit: int, burst: int, seconds: int) -> None:
    one = Throttle(limit, f"{seconds}s", burst=burst)
    tat = None
    for _ in range(burst):
        tat = passes(tat, 0, one.interval, one.tolerance)
        assert tat is not None
    assert passes(tat, one.interval - 1, one.interval, one.tolerance) is None
    assert passes_at(tat, one.tolerance) == one.interval
    assert passes(tat, one.interval, one.interval, one.tolerance) is not None


def test_an_interval_is_never_shorter_than_the_period_over_the_limit() -> None:
    assert Throttle(3, "1s").interval == 333_334
    assert RateLimit(1_000_000, "1s").interval == 1


def test_the_reason_names_the_limit_the_key_and_when_one_would_pass() -> None:
    told = skip_reason(RateLimit(2, "10s"), KEY, 1_704_067_210_000_000)
    assert told == 'rate limit: more than 2 in 10 s for "u1"; the next one passes at 2024-01-01T00:00:05.000+00:00'


@pytest.mark.parametrize(
    ("window", "ts", "verdict"),
    [
        (None, 5, debounce.Verdict.OPENS),
        (debounce.Window(5, None), 6, debounce.Verdict.MOVES),
        (debounce.Window(5, None), 5, debounce.Verdict.MOVES),
        (debounce.Window(5, None), 4, debounce.Verdict.IS_OLD),
    ],
)
def test_the_newest_event_counts(window: Any, ts: int, verdict: debounce.Verdict) -> None:
    assert debounce.judge(window, ts) is verdict


@given(st.lists(st.integers(0, 9 * SECOND), min_size=1, max_size=50))
def test_it_fires_a_period_after_the_last_and_never_past_its_deadline(gaps: list[int]) -> None:
    limit = Debounce("10s", timeout="25s")
    now, deadline = 0, debounce.deadline_of(limit, 0)
    at = debounce.fire_at(limit, deadline, now)
    for gap in gaps:
        if now + gap >= at:
            break
        now += gap
        at = debounce.fire_at(limit, deadline, now)
    assert at == min(now + 10 * SECOND, 25 * SECOND)


def test_a_batch_fills_by_number_and_by_bytes_and_never_grows_past_them() -> None:
    limit = Batch(3, "1s")
    most = batch.BYTES_BOUND
    assert batch.judge(limit, 0, 0, 10) is batch.Verdict.JOINS
    assert batch.judge(limit, 2, 20, 10) is batch.Verdict.FILLS
    assert batch.judge(limit, 1, most - 10, 10) is batch.Verdict.FILLS
    assert batch.judge(limit, 1, most - 10, 11) is batch.Verdict.OVERFLOWS
    # One that is too large alone is a batch of its own.
    assert batch.judge(limit, 0, 0, most + 1) is batch.Verdict.FILLS
    assert batch.judge(Batch(1, "1s"), 0, 0, 1) is batch.Verdict.FILLS


@given(st.lists(st.integers(1, 4_000_000), max_size=100), st.integers(1, 20))
def test_batches_take_every_event_once_within_their_bounds(sizes: list[int], most: int) -> None:
    limit = Batch(most, "1s")
    done: list[list[int]] = []
    here: list[int] = []
    for size in sizes:
        verdict = batch.judge(limit, len(here), sum(here), size)
        if verdict is batch.Verdict.OVERFLOWS:
            done.append(here)
            here = []
            verdict = batch.judge(limit, 0, 0, size)
        here.append(size)
        if verdict is batch.Verdict.FILLS:
            done.append(here)
            here = []
    assert [size for one in (*done, here) for size in one] == sizes
    assert all(0 < len(one) <= most and sum(one) <= batch.BYTES_BOUND for one in done)


def test_a_singleton_starts_skips_or_replaces() -> None:
    assert singleton.judge(Singleton("skip"), KEY, None) == singleton.STARTS
    assert singleton.judge(Singleton("skip"), KEY, "r1").skipped == 'singleton: run r1 is there for "u1"'
    assert singleton.judge(Singleton("cancel"), KEY, "r1").replaces == "r1"


@pytest.mark.parametrize(
    ("expression", "head"),
    [
        ("event.data.plan == 'pro' ? 120 : 0", 120 * SECOND),
        ("event.data.factor * 1.5", 3 * SECOND),
        ("5000", 600 * SECOND),
        ("-5000", -600 * SECOND),
        ("event.data.nothing", 0),
        ("event.data.plan", 0),
        ("event.data.plan > 1", 0),
        ("true", 0),
    ],
)
def test_a_priority_is_seconds_clamped_to_ten_minutes_and_0_where_it_is_no_number(expression: str, head: int) -> None:
    scope = {"event": {"data": {"plan": "pro", "factor": 2.0}}}
    assert priority.head_start(Priority(expression), "f", scope) == head
    assert priority.head_start(None, "f", scope) == 0


def test_equal_values_are_one_key_and_others_are_apart() -> None:
    def name(kind: str, flow: str, expression: str | None, data: Any) -> str:
        return key_of(kind, flow, expression, {"event": {"data": data}}).name

    one = name("rate_limit", "f", "event.data.u", {"u": 1})
    assert one == name("rate_limit", "f", "event.data.u", {"u": 1.0, "more": 1})
    others = {
        name("rate_limit", "f", "event.data.u", {"u": "1"}),
        name("rate_limit", "f", "event.data.u", {"u": None}),
        name("rate_limit", "g", "event.data.u", {"u": 1}),
        name("debounce", "f", "event.data.u", {"u": 1}),
        name("rate_limit", "f", None, {"u": 1}),
        name("rate_limit", "f", "[event.data.u]", {"u": 1}),
    }
    assert len(others - {one}) == 6


def test_what_cannot_be_evaluated_is_a_null_key_and_long_ones_are_shown_cut() -> None:
    assert key_of("singleton", "f", "event.data.u > 1", {"event": {"data": {"u": "text"}}}).is_null
    assert not key_of("singleton", "f", None, {"event": {"data": {}}}).is_null
    long = key_of("singleton", "f", "event.data.u", {"event": {"data": {"u": "x" * 1000}}})
    assert len(long.shown()) < 100
