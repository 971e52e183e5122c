"""Promises of cron lines: what is refused, when they fire, and what a change of the clock does to them."""

import os
import pickle
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from celery.schedules import crontab, schedule
from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from celeryflows.errors import DeclarationError
from celeryflows.model.cron import CronSchedule, from_crontab, jittered

PARIS, NEW_YORK, LORD_HOWE, KOLKATA = "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"
MINUTE = 60_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The two days on which each clock changes in 2024.
CHANGES = {
    PARIS: ("2024-03-31", "2024-10-27"),
    NEW_YORK: ("2024-03-10", "2024-11-03"),
    LORD_HOWE: ("2024-10-06", "2024-04-07"),
}


def us(text: str, tz: str = "UTC", fold: int = 0) -> int:
    local = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(tz), fold=fold)
    return (local - EPOCH) // timedelta(microseconds=1)


def local(moment: int, tz: str) -> datetime:
    return (EPOCH + timedelta(microseconds=moment)).astimezone(ZoneInfo(tz))


def fires(expression: str, tz: str, day: str) -> list[str]:
    """The local times at which a line fires on one day, with a mark on those of a repeated hour's second pass."""
    begin = us(f"{day}T00:00", tz)
    found = CronSchedule(expression, tz).occurrences(begin - 1, begin + 26 * 60 * MINUTE, 2_000)
    times = [local(moment, tz) for moment in found]
    return [f"{time:%H:%M}" + "'" * time.fold for time in times if f"{time:%Y-%m-%d}" == day]


# --- refused at declaration


@pytest.mark.parametrize(
    "line", ["* * * * * *", "*/10 * * * * *", "* * * * * * 2030", "* * * *", "", "@reboot", "@every 5s"]
)
def test_other_than_five_fields_is_refused_with_the_remedy(line: str) -> None:
    with pytest.raises(DeclarationError, match=r"five fields.*a loop with step\.sleep"):
        CronSchedule(line)


@pytest.mark.parametrize(
    "line",
    [
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * 32 * *",
        "* * * 13 *",
        "* * * * 8",
        "a * * * *",
        "*/0 * * * *",
        "1-x * * * *",
    ],
)
def test_a_bad_field_is_refused(line: str) -> None:
    with pytest.raises(DeclarationError, match="cannot be read"):
        CronSchedule(line)


@pytest.mark.parametrize("line", ["*/70 * * * *", "0 */25 * * *"])
def test_a_step_over_its_field_is_refused(line: str) -> None:
    with pytest.raises(DeclarationError, match="step of"):
        CronSchedule(line)


@pytest.mark.parametrize("line", ["R * * * *", "H 3 * * *", "R(0-10) * * * *"])
def test_a_random_field_is_refused(line: str) -> None:
    with pytest.raises(DeclarationError, match="jitter="):
        CronSchedule(line)


@pytest.mark.parametrize("line", ["0 0 30 2 *", "0 0 31 2,4,6 *"])
def test_a_line_that_never_fires_is_refused(line: str) -> None:
    with pytest.raises(DeclarationError, match="never fires within 5 years"):
        CronSchedule(line)


def test_an_unknown_zone_is_refused_with_the_nearest() -> None:
    with pytest.raises(DeclarationError, match="Did you mean 'Europe/Paris'"):
        CronSchedule("0 9 * * *", "Europe/Pariss")
    for name in ("", "Moon/Base", "../../etc/passwd", "Europe"):
        with pytest.raises(DeclarationError, match="Unknown time zone"):
            CronSchedule("0 9 * * *", name)


def test_a_host_without_time_zones_is_told_to_install_tzdata(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celeryflows.model.cron.available_timezones", set)
    with pytest.raises(DeclarationError, match="install the package tzdata"):
        CronSchedule("0 9 * * *", "Europe/Nowhere")


# --- what is taken


@pytest.mark.parametrize(
    ("line", "expression"),
    [
        ("@daily", "0 0 * * *"),
        ("@hourly", "0 * * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@yearly", "0 0 1 1 *"),
        ("  0   9 * *  MON-FRI ", "0 9 * * mon-fri"),
    ],
)
def test_a_line_is_kept_as_five_fields(line: str, expression: str) -> None:
    assert CronSchedule(line).expression == expression
    assert CronSchedule(line) == CronSchedule(expression)


def test_a_schedule_is_a_value() -> None:
    made = CronSchedule("0 9 * * 1-5", PARIS)
    assert pickle.loads(pickle.dumps(made)) == made
    assert len({made, CronSchedule("0 9 * * 1-5", PARIS)}) == 1
    assert CronSchedule("0 9 * * *").tz == "UTC"


def test_it_fires_in_its_zone() -> None:
    assert CronSchedule("0 9 * * *", KOLKATA).next_after(us("2024-01-01T00:00")) == us("2024-01-01T03:30")
    assert CronSchedule("0 9 * * *", NEW_YORK).next_after(us("2024-07-01T00:00")) == us("2024-07-01T13:00")


def test_next_is_strictly_after_and_previous_may_be_now() -> None:
    made, nine = CronSchedule("0 9 * * *"), us("2024-01-02T09:00")
    assert made.next_after(nine - 1) == nine
    assert made.next_after(nine) == us("2024-01-03T09:00")
    assert made.previous_at_or_before(nine) == nine
    assert made.previous_at_or_before(nine + 1) == nine
    assert made.previous_at_or_before(nine - 1) == us("2024-01-01T09:00")


def test_both_days_given_means_either() -> None:
    made = CronSchedule("0 0 13 * 5")
    days = [local(moment, "UTC").day for moment in made.occurrences(us("2024-08-01T00:00"), us("2024-08-31T00:00"), 99)]
    assert days == [2, 9, 13, 16, 23, 30]


def test_leap_days_wait_for_their_year_even_over_1900s() -> None:
    assert CronSchedule("0 0 29 2 *").next_after(us("2096-03-01T00:00")) == us("2104-02-29T00:00")


def test_before_the_epoch_it_counts_too() -> None:
    assert CronSchedule("0 0 * * *").previous_at_or_before(-1) == us("1969-12-31T00:00")


def test_occurrences_are_after_the_one_and_up_to_the_other() -> None:
    made, hour = CronSchedule("0 * * * *"), 60 * MINUTE
    assert made.occurrences(0, 3 * hour, 10) == [hour, 2 * hour, 3 * hour]
    assert made.occurrences(0, 3 * hour, 2) == [hour, 2 * hour]
    assert made.occurrences(0, hour - 1, 10) == []
    assert made.occurrences(0, hour, 0) == []


def test_the_zone_of_the_host_changes_nothing() -> None:
    script = (
        "from celeryflows.model.cron import CronSchedule as C; print(C('15 2 * * *', 'Europe/Paris').next_after(0))"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, "TZ": tz}, capture_output=True, text=True, check=True
        ).stdout
        for tz in ("UTC", NEW_YORK, LORD_HOWE)
    }
    assert len(seen) == 1


# --- the clock goes forward


@pytest.mark.parametrize(
    ("tz", "skipped", "end"), [(PARIS, "15 2", "03:00"), (NEW_YORK, "15 2", "03:00"), (LORD_HOWE, "15 2", "02:30")]
)
def test_a_skipped_time_fires_at_the_first_moment_after_the_gap(tz: str, skipped: str, end: str) -> None:
    assert fires(f"{skipped} * * *", tz, CHANGES[tz][0]) == [end]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0 2 * * *", ["03:00"]),
        ("15,45 2 * * *", ["03:00"]),
        ("15 2,3 * * *", ["03:00", "03:15"]),
        ("0 2,3 * * *", ["03:00"]),
        ("0 3 * * *", ["03:00"]),
        ("59 1 * * *", ["01:59"]),
        ("*/30 2 * * *", ["03:00"]),
        ("*/30 1-3 * * *", ["01:00", "01:30", "03:00", "03:30"]),
        ("30 1-3 * * *", ["01:30", "03:00", "03:30"]),
    ],
)
def test_skipped_times_that_meet_count_once(line: str, expected: list[str]) -> None:
    assert fires(line, PARIS, "2024-03-31") == expected


@pytest.mark.parametrize("line", ["*/30 * * * *", "30 * * * *", "7-59/20 * * * *", "* * * * *", "0,30 0-23 * * *"])
def test_an_interval_keeps_its_pace_over_an_hour_s_gap(line: str) -> None:
    """Never two fires closer than on any other day."""
    paces = {}
    for day in ("2024-03-30", "2024-03-31"):
        begin = us(f"{day}T00:00", PARIS)
        found = CronSchedule(line, PARIS).occurrences(begin, begin + 6 * 60 * MINUTE, 999)
        paces[day] = [later - earlier for earlier, later in pairwise(found)]
    assert paces["2024-03-30"] == paces["2024-03-31"]


def test_what_an_interval_of_hours_would_skip_fires_after_the_gap() -> None:
    assert fires("0 */2 * * *", PARIS, "2024-03-31")[:3] == ["00:00", "03:00", "04:00"]
    assert fires("15 * * * *", LORD_HOWE, "2024-10-06")[:4] == ["00:15", "01:15", "02:30", "03:15"]


def test_a_gap_at_midnight_belongs_to_the_new_day() -> None:
    assert fires("0 0 * * *", "America/Sao_Paulo", "2018-11-04") == ["01:00"]
    assert fires("30 0 * * *", "Africa/Cairo", "2024-04-26") == ["01:00"]


def test_a_whole_skipped_day_fires_once_when_it_is_over() -> None:
    made = CronSchedule("0,30 9,12 30 12 *", "Pacific/Apia")  # Samoa had no 30 December 2011
    found = made.occurrences(us("2011-12-29T00:00"), us("2012-01-02T00:00"), 9)
    assert [f"{local(moment, 'Pacific/Apia'):%d %H:%M}" for moment in found] == ["31 00:00"]


# --- the clock goes back


@pytest.mark.parametrize(("tz", "line"), [(PARIS, "15 2"), (NEW_YORK, "15 1"), (LORD_HOWE, "45 1")])
def test_a_repeated_time_fires_at_its_first_only(tz: str, line: str) -> None:
    minute, hour = line.split()
    assert fires(f"{line} * * *", tz, CHANGES[tz][1]) == [f"0{hour}:{minute}"]


def test_an_interval_goes_on_through_the_repeated_hour() -> None:
    assert fires("*/30 * * * *", PARIS, "2024-10-27")[2:10] == [
        "01:00", "01:30", "02:00", "02:30", "02:00'", "02:30'", "03:00", "03:30",
    ]  # fmt: skip
    assert fires("15 * * * *", NEW_YORK, "2024-11-03")[:4] == ["00:15", "01:15", "01:15'", "02:15"]
    assert fires("*/15 * * * *", LORD_HOWE, "2024-04-07")[4:11] == [
        "01:00", "01:15", "01:30", "01:45", "01:30'", "01:45'", "02:00",
    ]  # fmt: skip
    assert fires("*/30 2 * * *", PARIS, "2024-10-27") == ["02:00", "02:30", "02:00'", "02:30'"]


def test_a_range_of_minutes_is_no_interval() -> None:
    assert fires("0-23 2 * * *", PARIS, "2024-10-27") == [f"02:{minute:02}" for minute in range(24)]


def test_from_inside_the_repeated_hour_both_ways_are_right() -> None:
    made = CronSchedule("30 * * * *", PARIS)
    first, second = us("2024-10-27T02:30", PARIS), us("2024-10-27T02:30", PARIS, fold=1)
    assert second - first == 60 * MINUTE
    assert made.next_after(first) == second
    assert made.previous_at_or_before(second - 1) == first
    once = CronSchedule("30 2 * * *", PARIS)
    assert once.next_after(first) == us("2024-10-28T02:30", PARIS)
    assert once.previous_at_or_before(second + MINUTE) == first


# --- for any line


minutes = st.sampled_from(["*", "*/7", "*/30", "0", "15", "30", "59", "0,30", "5-20", "10-50/20", "45,*/20"])
hours = st.sampled_from(["*", "*/2", "*/5", "0", "1", "2", "3", "1,2", "2-3", "22-2", "23"])
days = st.sampled_from(["* * *", "* * 0", "* * 6,7", "1-15 * *", "* 3-11 *", "*/2 * *", "10 * 0"])
lines = st.builds("{} {} {}".format, minutes, hours, days)
zones = st.sampled_from([PARIS, NEW_YORK, LORD_HOWE, KOLKATA, "UTC", "Antarctica/Troll", "America/Sao_Paulo"])
starts = st.one_of(
    st.sampled_from([(tz, day) for tz, both in CHANGES.items() for day in both]).flatmap(
        lambda change: st.tuples(st.just(change[0]), st.integers(-4, 30).map(lambda h: us(change[1]) + h * 60 * MINUTE))
    ),
    st.tuples(zones, st.integers(us("2016-01-01"), us("2030-01-01"))),
)


@given(lines, starts)
@settings(max_examples=300, deadline=None)
def test_next_goes_strictly_on_and_previous_finds_the_way_back(line: str, start: tuple[str, int]) -> None:
    tz, moment = start
    made = CronSchedule(line, tz)
    before = made.previous_at_or_before(moment)
    assert before is not None
    assert before <= moment
    for _ in range(4):
        following = made.next_after(moment)
        assert following > moment
        assert following % MINUTE == 0
        assert made.previous_at_or_before(following) == following
        assert made.previous_at_or_before(following - 1) == before
        assert made.next_after(before) == following
        before = moment = following


@given(lines, st.sampled_from([(tz, day) for tz, both in CHANGES.items() for day in both]))
@settings(max_examples=100, deadline=None)
def test_around_a_change_every_minute_that_fits_fires_and_no_other(line: str, change: tuple[str, str]) -> None:
    """Against a plain walk over the minutes; a gap's end alone may fire without fitting."""
    tz, day = change
    made = CronSchedule(line, tz)
    begin = us(f"{day}T00:00", tz) - 3 * 60 * MINUTE
    found = made.occurrences(begin - 1, begin + 9 * 60 * MINUTE - 1, 999)
    assert len(found) == len(set(found))
    interval = any(field.startswith("*") or ",*" in field for field in line.split()[:2])
    walk = [begin + step * MINUTE for step in range(9 * 60)]
    fields = [set(field) for field in croniter.expand(line)[0]]
    fits = {moment for moment in walk if _fits(fields, at := local(moment, tz)) and (interval or not at.fold)}
    assert fits <= set(found)
    ends = {moment for moment in walk if _offset(moment, tz) > _offset(moment - MINUTE, tz)}
    assert set(found) - fits <= ends


@given(lines, st.sampled_from(list(CHANGES)))
@settings(max_examples=100, deadline=None)
def test_no_local_time_of_a_fixed_line_fires_twice_on_either_day(line: str, tz: str) -> None:
    if any("*" in field for field in line.split()[:2]):
        return
    for day in CHANGES[tz]:
        times = fires(line, tz, day)
        assert len(times) == len(set(times))
        assert not any(time.endswith("'") for time in times)


def _fits(fields: list[set[int | str]], at: datetime) -> bool:
    """A cron line's plain meaning, on the sets that croniter reads from its fields."""
    minutes, hours, month_days, months, weekdays = fields
    on_day, on_weekday = at.day in month_days, at.isoweekday() % 7 in weekdays
    if "*" in month_days or "*" in weekdays:
        day = (on_day or "*" in month_days) and (on_weekday or "*" in weekdays)
    else:
        day = on_day or on_weekday
    return day and all(
        "*" in field or value in field for field, value in ((minutes, at.minute), (hours, at.hour), (months, at.month))
    )


def _offset(moment: int, tz: str) -> timedelta:
    return local(moment, tz).utcoffset() or timedelta(0)


# --- jitter


def test_jitter_is_the_same_everywhere_and_below_its_bound() -> None:
    offsets = [jittered("ship", due * MINUTE, 30_000_000) for due in range(500)]
    assert offsets == [jittered("ship", due * MINUTE, 30_000_000) for due in range(500)]
    assert 0 <= min(offsets) < 1_000_000
    assert 29_000_000 < max(offsets) < 30_000_000
    assert jittered("bill", 0, 30_000_000) != jittered("ship", 0, 30_000_000)
    assert jittered("ship", 0, 30_000_000) == 8_869_610


@pytest.mark.parametrize(("jitter", "offset"), [(0, 0), (1, 0), (-5, 0)])
def test_no_jitter_is_no_delay(jitter: int, offset: int) -> None:
    assert jittered("ship", 1, jitter) == offset


# --- Celery's crontab


@pytest.mark.parametrize(
    ("given_as", "expression"),
    [
        (crontab(), "* * * * *"),
        (crontab(minute=0, hour=9), "0 9 * * *"),
        (crontab(minute="*/15"), "*/15 * * * *"),
        (crontab(minute=0, hour={17, 9}), "0 9,17 * * *"),
        (crontab(minute=[0, 30], hour="8-18/2"), "0,30 8-18/2 * * *"),
        (crontab(0, 0, day_of_week="Monday,friday"), "0 0 * * mon,fri"),
        (crontab(0, 0, day_of_month="1,15", month_of_year="*/3"), "0 0 1,15 */3 *"),
    ],
)
def test_a_crontab_is_five_fields(given_as: crontab, expression: str) -> None:
    assert from_crontab(given_as) == expression


def test_a_crontab_of_both_days_is_refused_since_celery_means_both_and_cron_either() -> None:
    with pytest.raises(DeclarationError, match="Celery fires when both fit"):
        from_crontab(crontab(0, 0, day_of_month=13, day_of_week=5))


@pytest.mark.parametrize("other", [5, None, schedule(10), timedelta(hours=1), object()])
def test_what_is_no_crontab_is_refused(other: object) -> None:
    with pytest.raises(DeclarationError, match="no cron line"):
        from_crontab(other)


@given(
    st.sampled_from(["*", "*/7", "5", "50-10", "10-50/20", "3,*/25"]),
    st.sampled_from(["*", "*/5", "22-2", "22-4/2", "9-17/3", "0,12"]),
    st.sampled_from([("*", "*"), ("*/2", "*"), ("28-3", "*"), ("*", "fri-mon"), ("*", "sunday"), ("*", "*/2")]),
    st.sampled_from(["*", "*/3", "2-12/5", "11-2"]),
)
@settings(max_examples=60, deadline=None)
def test_a_crontab_fires_when_celery_would(minute: str, hour: str, day: tuple[str, str], month: str) -> None:
    theirs = crontab(minute=minute, hour=hour, day_of_month=day[0], day_of_week=day[1], month_of_year=month)
    made = CronSchedule(from_crontab(theirs))
    begin = us("2024-01-01T00:00")
    for moment in made.occurrences(begin, us("2025-06-01T00:00"), 40):
        at = local(moment, "UTC")
        assert at.minute in theirs.minute
        assert at.hour in theirs.hour
        assert at.month in theirs.month_of_year
        assert at.day in theirs.day_of_month
        assert at.isoweekday() % 7 in theirs.day_of_week
    fields, _ = croniter.expand(made.expression)
    assert fields[0] == ["*"] or set(fields[0]) == theirs.minute
    assert fields[1] == ["*"] or set(fields[1]) == theirs.hour
    assert fields[2] == ["*"] or set(fields[2]) == theirs.day_of_month
    assert fields[3] == ["*"] or set(fields[3]) == theirs.month_of_year
    assert fields[4] == ["*"] or set(fields[4]) == theirs.day_of_week
