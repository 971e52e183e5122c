"""Promises of an event's own words: which names, ids and moments are taken, and what each refusal says."""

from contextlib import suppress
from dataclasses import FrozenInstanceError
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeryflows.errors import InvalidEvent
from celeryflows.model.events import (
    EARLIEST,
    ID_BOUND,
    LATEST,
    NAME_BOUND,
    Event,
    StoredEvent,
    check_id,
    check_name,
    check_ts,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


# --- names


@pytest.mark.parametrize(
    "name",
    [
        "order/paid",
        "order",
        "shop/order.paid.v2",
        "Bestellung/gelöscht",
        "注文/支払い済み",
        "order paid",
        "order/paid😀",
        "flow/started",
        "flowsy/started",
        "my.flows/run.failed",
        "x",
        "x" * NAME_BOUND,
    ],
)
def test_a_name_is_free_beyond_the_few_rules(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (None, "must be text, got NoneType"),
        (7, "must be text, got int"),
        (b"order/paid", "must be text, got bytes"),
        ("", "is empty"),
        ("x" * (NAME_BOUND + 1), "is 257 characters long; at most 256"),
        (" order/paid", "begins or ends with a blank"),
        ("order/paid ", "begins or ends with a blank"),
        ("order/paid\n", "begins or ends with a blank"),
        (" ", "begins or ends with a blank"),
        ("order/*", r"holds '\*'; only a trigger may"),
        ("*", r"holds '\*'"),
        ("order\0paid", "control character"),
        ("order\npaid", "control character"),
        ("order\x7fpaid", "control character"),
        ("order\x85paid", "control character"),
        ("order\ud800", "control character or one that cannot be stored"),
        ("flows/run.failed", "'flows/...' is reserved"),
        ("flows/", "'flows/...' is reserved"),
        ("Flows/run.failed", "'flows/...' is reserved"),
        ("FLOWS/anything", "'flows/...' is reserved"),
    ],
)
def test_a_refused_name_is_told_why(name: object, reason: str) -> None:
    with pytest.raises(InvalidEvent, match=reason) as refused:
        check_name(name, 3)

    assert refused.value.index == 3


@given(st.text(max_size=300))
def test_a_name_that_is_taken_is_taken_as_it_is(name: str) -> None:
    with suppress(InvalidEvent):
        assert check_name(name) == name
        assert 0 < len(name) <= NAME_BOUND
        assert name == name.strip()
        assert "*" not in name
        assert not name.lower().startswith("flows/")
        assert name.encode().decode() == name


# --- the sender's ids


@pytest.mark.parametrize("value", [None, "x", "evt_1", "x" * ID_BOUND, " ", "ü", "a\nb"])
def test_an_id_is_any_text(value: str | None) -> None:
    assert check_id(value) == value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "1 to 256 characters, got 0"),
        ("x" * (ID_BOUND + 1), "1 to 256 characters, got 257"),
        (17, "must be text, got int"),
        (b"x", "must be text, got bytes"),
        ("a\0b", "NUL or a lone surrogate"),
        ("\udfff", "NUL or a lone surrogate"),
    ],
)
def test_a_refused_id_is_told_why(value: object, reason: str) -> None:
    with pytest.raises(InvalidEvent, match=reason) as refused:
        check_id(value, 2)

    assert refused.value.index == 2


# --- moments


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        (None, None),
        (NOON, NOON),
        (1_772_366_400_000, NOON),
        ("2026-03-01T12:00:00Z", NOON),
        ("2026-03-01T13:00:00+01:00", NOON),
        (EARLIEST, EARLIEST),
        (LATEST, LATEST),
        (315_532_800_000, EARLIEST),
        (4_102_444_800_000, LATEST),
    ],
)
def test_a_moment_is_a_datetime_iso_text_or_milliseconds(value: object, moment: datetime | None) -> None:
    assert check_ts(value) == moment


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (EARLIEST - timedelta(microseconds=1), "before 1980; int ts are milliseconds"),
        (LATEST + timedelta(microseconds=1), "after 2100; int ts are milliseconds"),
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5))), "before 1980"),
        (315_532_799_999, "before 1980; int ts are milliseconds"),
        (4_102_444_800_001, "after 2100; int ts are milliseconds"),
        (1_772_366_400, "before 1980; int ts are milliseconds"),
        (1_772_366_400_000_000, "after 2100 or before 1980; int ts are milliseconds"),
        (0, "before 1980"),
        (-1, "before 1980"),
        (10**30, "after 2100"),
        (-(10**30), "before 1980"),
        (datetime(2026, 3, 1, 12), "no time zone; use datetime"),
        ("2026-03-01T12:00:00", "no time zone"),
        ("soon", "'soon' is no ISO moment"),
        ("", "is no ISO moment"),
        (date(2026, 3, 1), "must be an aware datetime, got date"),
        (1.5, "must be an aware datetime, got float"),
        (True, "must be an aware datetime, got bool"),
        ([], "must be an aware datetime, got list"),
    ],
)
def test_a_refused_moment_is_told_why(value: object, reason: str) -> None:
    with pytest.raises(InvalidEvent, match=reason) as refused:
        check_ts(value, 1)

    assert refused.value.index == 1


# --- its two forms


def stored(**more: object) -> StoredEvent:
    fields = {
        "id": "01H",
        "ext_id": None,
        "name": "a/b",
        "text": "{}",
        "data": {},
        "ts": 1_772_366_400_123_456,
        "v": None,
    }
    return StoredEvent(**{**fields, **more})  # type: ignore[arg-type]


def test_an_event_cannot_be_changed() -> None:
    event = Event("order/paid")

    with pytest.raises(FrozenInstanceError):
        event.name = "order/lost"  # type: ignore[misc]


def test_only_name_and_data_are_positional() -> None:
    with pytest.raises(TypeError):
        Event("order/paid", {}, "my id")  # type: ignore[misc]


def test_expressions_see_milliseconds_and_handlers_a_datetime() -> None:
    event = stored(data={"n": 1})

    assert event.scope() == {"name": "a/b", "data": {"n": 1}, "id": "01H", "ts": 1_772_366_400_123, "v": None}
    assert event.public() == Event("a/b", {"n": 1}, id="01H", ts=NOON.replace(microsecond=123_456))


def test_the_senders_id_is_the_events_id_in_both() -> None:
    event = stored(ext_id="evt_1", v="2")

    assert event.scope()["id"] == event.public().id == "evt_1"
    assert event.scope()["v"] == event.public().v == "2"
