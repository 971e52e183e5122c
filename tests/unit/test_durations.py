"""Durations: read from text, shown to people, never rounded."""

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeryflows.durations import (
    DAY,
    HOUR,
    MILLISECOND,
    MINUTE,
    SECOND,
    YEAR_366,
    format_duration,
    from_datetime,
    parse_bounded,
    parse_duration,
    parse_moment,
    to_datetime,
)
from celeryflows.errors import BoundExceeded, InvalidDuration


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("30s", 30 * SECOND),
        ("3 days", 3 * DAY),
        ("1h30m", HOUR + 30 * MINUTE),
        ("1h 30m", HOUR + 30 * MINUTE),
        ("1.5h", 90 * MINUTE),
        ("250ms", 250 * MILLISECOND),
        ("2 weeks", 14 * DAY),
        ("1 day 2 hours", DAY + 2 * HOUR),
        ("1 day, 2 hours", DAY + 2 * HOUR),
        ("  5 Minutes ", 5 * MINUTE),
        ("0s", 0),
        ("0.1s", 100 * MILLISECOND),
        ("1d2h3m4s5ms", DAY + 2 * HOUR + 3 * MINUTE + 4 * SECOND + 5 * MILLISECOND),
        ("365 days", 365 * DAY),
        ("0.000001s", 1),
        ("0.0000019s", 2),
        ("1 sec", SECOND),
        ("10 mins", 10 * MINUTE),
    ],
)
def test_text_is_read_as_people_write_it(text: str, us: int) -> None:
    assert parse_duration(text) == us


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=10**7)))
def test_a_timedelta_is_read_exactly(span: timedelta) -> None:
    assert timedelta(microseconds=parse_duration(span)) == span


@pytest.mark.parametrize(
    "bare", [30, 1.5, 0, -3, "30", " 30 ", "1.5", "-7", "1e3", "1_000", float("nan"), pytest.param(10**5000, id="huge")]
)
def test_a_bare_number_is_refused_with_the_reason_and_the_remedy(bare: Any) -> None:
    with pytest.raises(InvalidDuration, match=r"Celery would mean seconds, Inngest milliseconds.*\"30s\"") as caught:
        parse_duration(bare, "sleep 'nap'")
    assert str(caught.value).startswith("sleep 'nap': ")


@pytest.mark.parametrize(
    "bad",
    ["", " ", "s", "abc", "3 fortnights", "1M", "1y", "1h 1h", "1h,", "1h;2m", "+5s", "1h30", "٣s", "1.s", "5 s s"],
)
def test_text_that_cannot_be_read_is_refused_with_examples(bad: str) -> None:
    with pytest.raises(InvalidDuration, match="3 days"):
        parse_duration(bad)


@pytest.mark.parametrize("bad", ["-5s", "-1h30m", timedelta(seconds=-1), timedelta(microseconds=-1)])
def test_a_negative_duration_is_refused(bad: Any) -> None:
    with pytest.raises(InvalidDuration, match="negative"):
        parse_duration(bad)


@pytest.mark.parametrize("bad", [True, False, None, b"30s", [], date(2026, 1, 1)])
def test_what_is_no_duration_is_refused_by_its_kind(bad: Any) -> None:
    with pytest.raises(InvalidDuration, match=type(bad).__name__):
        parse_duration(bad)


@pytest.mark.parametrize("endless", ["9" * 90 + " weeks", timedelta.max])
def test_a_duration_past_64_bits_is_refused(endless: Any) -> None:
    with pytest.raises(InvalidDuration, match="longer than can be stored"):
        parse_duration(endless)


def test_a_very_long_text_is_refused_without_being_repeated() -> None:
    with pytest.raises(InvalidDuration) as caught:
        parse_duration("1" * 100_000 + "s")
    assert len(str(caught.value)) < 200


def test_both_ends_of_a_bound_are_allowed() -> None:
    assert parse_bounded("1ms", what="sleep", least=MILLISECOND, most=YEAR_366) == MILLISECOND
    assert parse_bounded("366 days", what="sleep", least=MILLISECOND, most=YEAR_366) == YEAR_366


def test_less_than_the_least_is_an_invalid_duration_that_names_the_least() -> None:
    with pytest.raises(InvalidDuration, match=r"period: '0\.5s' is too short\. Give at least 1 s"):
        parse_bounded("0.5s", what="period", least=SECOND, most=DAY)


@pytest.mark.parametrize("long", ["367 days", "366 days 1ms", "9" * 90 + "w"])
def test_more_than_the_most_exceeds_a_bound_that_is_told_in_words(long: str) -> None:
    with pytest.raises(BoundExceeded, match=r"sleep in seconds: at most 31,622,400, got .*at most 366 days") as caught:
        parse_bounded(long, what="sleep", least=MILLISECOND, most=YEAR_366)
    assert caught.value.size > caught.value.limit == 366 * 86_400


@pytest.mark.parametrize(
    "moment",
    [
        "2026-03-01T09:00:00Z",
        "2026-03-01T10:00:00+01:00",
        " 2026-03-01 09:00:00+00:00 ",
        datetime(2026, 3, 1, 9, tzinfo=UTC),
        datetime(2026, 3, 1, 10, tzinfo=ZoneInfo("Europe/Berlin")),
    ],
)
def test_a_moment_is_an_aware_datetime_or_iso_text_with_a_zone(moment: Any) -> None:
    assert parse_moment(moment) == 1_772_355_600 * SECOND


@pytest.mark.parametrize("naive", ["2026-03-01T09:00:00", "2026-03-01", datetime(2026, 3, 1)])
def test_a_moment_without_zone_is_refused_with_a_remedy(naive: Any) -> None:
    with pytest.raises(InvalidDuration, match=r"until: 2026-03-01.* has no zone.*tzinfo=UTC"):
        parse_moment(naive, "until")


@pytest.mark.parametrize("bad", ["tomorrow", "", 1_772_355_600, True, None, date(2026, 3, 1)])
def test_what_is_no_moment_is_refused_with_an_example(bad: Any) -> None:
    with pytest.raises(InvalidDuration, match="2026-03-01T09:00:00Z"):
        parse_moment(bad)


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (0, "0 s"),
        (1, "0.001 ms"),
        (1_500, "1.5 ms"),
        (12 * MILLISECOND, "12 ms"),
        (999_999, "999 ms"),
        (SECOND, "1 s"),
        (1_500_000, "1.5 s"),
        (MINUTE - 1, "59.9 s"),
        (MINUTE, "1 minute"),
        (5 * MINUTE + 30 * SECOND, "5m 30s"),
        (HOUR + 30 * MINUTE, "1h 30m"),
        (HOUR - 1, "59m 59s"),
        (DAY, "1 day"),
        (3 * DAY, "3 days"),
        (2 * DAY + 5 * HOUR, "2d 5h"),
        (YEAR_366, "366 days"),
        (-90 * SECOND, "-1m 30s"),
    ],
)
def test_a_duration_is_shown_shortly(us: int, text: str) -> None:
    assert format_duration(us) == text


@given(st.integers(0, 10 * YEAR_366))
def test_a_shown_duration_can_be_read_again_and_is_never_longer(us: int) -> None:
    again = parse_duration(format_duration(us))
    assert again <= us
    assert us - again <= max(us // 10, 0)


@given(st.datetimes(timezones=st.just(UTC)))
def test_datetimes_survive_the_way_through_microseconds_exactly(moment: datetime) -> None:
    assert to_datetime(from_datetime(moment)) == moment


def test_to_datetime_is_aware_utc() -> None:
    assert to_datetime(1).tzinfo is UTC
    assert to_datetime(-1) == datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)


def test_from_datetime_knows_offsets_and_folds() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    early, late = (datetime(2026, 10, 25, 2, 30, tzinfo=berlin, fold=fold) for fold in (0, 1))
    assert from_datetime(late) - from_datetime(early) == HOUR
    assert from_datetime(datetime(1970, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))) == 0


def test_from_datetime_refuses_a_naive_one() -> None:
    with pytest.raises(InvalidDuration, match="no zone"):
        from_datetime(datetime(2026, 1, 1))
