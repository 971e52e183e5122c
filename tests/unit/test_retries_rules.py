"""Promises of retries: how long to wait before the next attempt, and what of it may be declared."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeryflows.errors import BoundExceeded, DeclarationError, InvalidDuration, RetryAfterError
from celeryflows.model.retries import RETRIES_BOUND, Backoff, RetryPolicy, check_backoff, check_retries, retry_after

SECOND, HOUR = 1_000_000, 3_600_000_000
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW_US = 1_772_366_400_000_000


def test_the_default_waits_one_two_four_eight_seconds() -> None:
    assert [RetryPolicy().delay(n, 0) for n in (1, 2, 3, 4)] == [SECOND, 2 * SECOND, 4 * SECOND, 8 * SECOND]


def test_the_default_is_three_retries_and_an_hour_at_most() -> None:
    assert RetryPolicy().retries == 3
    assert RetryPolicy().delay(RETRIES_BOUND, 0) == HOUR


def test_jitter_adds_up_to_a_tenth() -> None:
    assert Backoff().delay(1, 1.0) == SECOND * 11 // 10
    assert Backoff(jitter=0).delay(1, 1.0) == SECOND


@given(attempt=st.integers(1, 10_000), dice=st.floats(0, 1), factor=st.floats(1, 1000), jitter=st.floats(0, 1))
def test_a_wait_lies_between_first_and_max_with_its_jitter(
    attempt: int, dice: float, factor: float, jitter: float
) -> None:
    delay = Backoff("2s", factor, "10 minutes", jitter).delay(attempt, dice)

    assert 2 * SECOND <= delay <= 600 * SECOND * (1 + jitter)


@given(attempt=st.integers(1, 200), factor=st.floats(1, 100))
def test_a_later_attempt_never_waits_less(attempt: int, factor: float) -> None:
    backoff = Backoff(factor=factor)

    assert backoff.delay(attempt, 0) <= backoff.delay(attempt + 1, 0)


def test_a_max_below_first_holds_from_the_first_on() -> None:
    assert Backoff("1 minute", max="10s", jitter=0).delay(1, 0) == 10 * SECOND


def test_an_own_function_is_asked_with_the_attempt() -> None:
    policy = RetryPolicy(5, lambda attempt: timedelta(seconds=attempt * 10))

    assert [policy.delay(n, 0.9) for n in (1, 2, 3)] == [10 * SECOND, 20 * SECOND, 30 * SECOND]


def test_an_own_function_may_not_give_a_bare_number() -> None:
    with pytest.raises(InvalidDuration, match="backoff"):
        RetryPolicy(5, lambda attempt: 10).delay(1, 0)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("value", [0, 3, RETRIES_BOUND])
def test_zero_to_twenty_retries_are_taken(value: int) -> None:
    assert check_retries(value, "flow 'x'") == value


@pytest.mark.parametrize("value", [-1, RETRIES_BOUND + 1, 3.0, "3", True, None])
def test_other_retries_are_refused_with_the_range(value: object) -> None:
    with pytest.raises(DeclarationError, match=r"flow 'x': retries=.*; a whole number, 0 to 20"):
        check_retries(value, "flow 'x'")


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"first": 1}, InvalidDuration, "Backoff first"),
        ({"first": "soon"}, InvalidDuration, "Backoff first"),
        ({"max": "400 days"}, BoundExceeded, "Backoff max"),
        ({"factor": 0.5}, DeclarationError, "factor=0.5: at least 1"),
        ({"factor": float("nan")}, DeclarationError, "factor=nan: at least 1"),
        ({"jitter": -0.1}, DeclarationError, "jitter=-0.1: 0 to 1"),
        ({"jitter": 1.1}, DeclarationError, "jitter=1.1: 0 to 1"),
        ({"jitter": float("nan")}, DeclarationError, "jitter=nan: 0 to 1"),
    ],
)
def test_a_bad_backoff_is_refused_where_it_is_made(
    options: dict[str, object], error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        Backoff(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["1s", 5, None, timedelta(seconds=1)])
def test_what_is_no_backoff_is_refused(value: object) -> None:
    with pytest.raises(DeclarationError, match=r"a Backoff\(\.\.\.\) or a function of the attempt"):
        check_backoff(value, "flow 'x'")


@pytest.mark.parametrize(
    ("after", "wait"),
    [
        (5, 5 * SECOND),
        (2.5, 2_500_000),
        ("90s", 90 * SECOND),
        (timedelta(minutes=3), 180 * SECOND),
        (NOW + timedelta(hours=2), 2 * HOUR),
        (0, SECOND),
        (-30, SECOND),
        (NOW - timedelta(days=1), SECOND),
        ("500ms", SECOND),
        ("3 days", 24 * HOUR),
        (10**9, 24 * HOUR),
        (float("inf"), 24 * HOUR),
        (float("-inf"), SECOND),
        (float("nan"), SECOND),
    ],
)
def test_an_error_may_ask_for_its_own_wait_of_a_second_to_a_day(after: object, wait: int) -> None:
    assert retry_after(RetryAfterError("later", after), NOW_US) == wait  # type: ignore[arg-type]


@pytest.mark.parametrize("after", ["soon", datetime(2026, 3, 1, 12)])
def test_a_wait_that_cannot_be_read_is_an_error(after: object) -> None:
    with pytest.raises(InvalidDuration):
        retry_after(RetryAfterError("later", after), NOW_US)  # type: ignore[arg-type]
