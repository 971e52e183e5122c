"""Promises of what starts a flow: patterns, conditions and cron lines, how they are refused and how they are stored."""

import json
from datetime import timedelta

import pytest
from celery.schedules import crontab
from hypothesis import given
from hypothesis import strategies as st

from celeryflows.errors import BoundExceeded, DeclarationError, ExpressionError, InvalidDuration
from celeryflows.model.flows import FlowDefinition, read_definition, read_trigger, trigger_json
from celeryflows.model.triggers import TRIGGER_BOUND, OnCron, OnEvent, parse_triggers

# --- event names and patterns


@pytest.mark.parametrize(
    ("pattern", "name", "does"),
    [
        ("order/paid", "order/paid", True),
        ("order/paid", "order/paid2", False),
        ("order/paid", "Order/paid", False),
        ("order/paid", "order/pai", False),
        ("order/*", "order/paid", True),
        ("order/*", "order/a/b.c", True),
        ("order/*", "order/", False),
        ("order/*", "order", False),
        ("order/*", "orders/paid", False),
        ("app/user.*", "app/user.created", True),
        ("app/user.*", "app/user.", False),
        ("app/user.*", "app/userscreated", False),
        ("app/user.*", "app/users.created", False),
    ],
)
def test_a_pattern_matches_what_goes_on_after_its_slash_or_dot(pattern: str, name: str, does: bool) -> None:
    assert OnEvent(pattern).matches(name) is does


@given(st.text(min_size=1, max_size=20), st.sampled_from(["shop/", "shop/order."]))
def test_a_pattern_matches_whatever_follows(rest: str, prefix: str) -> None:
    assert OnEvent(prefix + "*").matches(prefix + rest)


@pytest.mark.parametrize("name", ["app*", "*", "a*b", "app/*/x", "app/**", "*/app", "app/u*", "app-*"])
def test_a_star_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(DeclarationError, match=r"'\*' may stand only at the end, after '/' or '.'"):
        OnEvent(name)


@pytest.mark.parametrize("name", ["", " ", " a", "a ", "a\nb", "a\0b", None, 5, b"a", ["a"]])
def test_what_is_no_event_name_is_refused(name: object) -> None:
    with pytest.raises(DeclarationError, match="is no event name"):
        OnEvent(name)  # type: ignore[arg-type]


def test_a_name_that_no_event_can_have_is_refused() -> None:
    with pytest.raises(DeclarationError, match="is 257 characters long; at most 256"):
        OnEvent("x" * 257)


@pytest.mark.parametrize("name", ["flows/run.failed", "flows/run.*", "flows/*"])
def test_our_own_events_may_be_listened_to(name: str) -> None:
    assert OnEvent(name).matches("flows/run.failed")


# --- conditions


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("event.data.total >", r"if_exp of trigger 'order/paid'"),
        ("evnt.data.total > 1", "evnt"),
        ("async.data.total > 1", "async"),
        ("shout(event.data.name)", "shout"),
        ("", "if_exp of trigger 'order/paid'"),
    ],
)
def test_a_bad_condition_is_refused_where_it_is_declared(condition: str, reason: str) -> None:
    with pytest.raises(ExpressionError, match=reason):
        OnEvent("order/paid", condition)


def test_a_bad_condition_is_told_with_its_column() -> None:
    with pytest.raises(ExpressionError) as refused:
        OnEvent("order/paid", "event.data.total > > 1")

    assert refused.value.column == 20


# --- the trigger= option


def test_no_trigger_is_none_at_all() -> None:
    assert parse_triggers(None, "f") == ()
    assert parse_triggers([], "f") == ()


def test_text_a_trigger_and_a_list_of_both_are_taken() -> None:
    cron = OnCron("0 9 * * *")

    assert parse_triggers("a/b", "f") == (OnEvent("a/b"),)
    assert parse_triggers(cron, "f") == (cron,)
    assert parse_triggers(["a/b", OnEvent("c/d"), cron], "f") == (OnEvent("a/b"), OnEvent("c/d"), cron)
    assert parse_triggers(("a/b",), "f") == (OnEvent("a/b"),)


def test_a_crontab_of_celery_is_a_cron_trigger() -> None:
    assert parse_triggers(crontab(minute=0, hour=9), "f") == (OnCron("0 9 * * *"),)


def test_ten_triggers_are_taken_and_eleven_refused() -> None:
    assert len(parse_triggers(["a/b"] * TRIGGER_BOUND, "f")) == 10
    with pytest.raises(DeclarationError, match=r"flow 'f' has 11 triggers; at most 10"):
        parse_triggers(["a/b"] * 11, "f")


@pytest.mark.parametrize("line", ["0 9 * * 1-5", "* * * * *", "@daily", "0 0 9 * * *"])
def test_a_cron_line_as_text_is_asked_about(line: str) -> None:
    with pytest.raises(DeclarationError, match=r"did you mean OnCron\("):
        parse_triggers(line, "f")


@pytest.mark.parametrize("value", [5, {"event": "a/b"}, timedelta(minutes=5), [["a/b"]], [None]])
def test_another_kind_of_trigger_is_refused(value: object) -> None:
    with pytest.raises(DeclarationError, match="flow 'f': a trigger is text, OnEvent or OnCron, got"):
        parse_triggers(value, "f")


# --- cron triggers


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"cron": "every day"}, DeclarationError, "five fields"),
        ({"cron": "0 9 * * *", "tz": "Europe/Pariss"}, DeclarationError, "Did you mean 'Europe/Paris'"),
        ({"cron": "0 9 * * *", "missed": "some"}, DeclarationError, "one of 'latest', 'all', 'skip'"),
        ({"cron": "0 9 * * *", "jitter": "soon"}, InvalidDuration, "OnCron jitter"),
        ({"cron": "0 9 * * *", "jitter": 30}, InvalidDuration, "OnCron jitter"),
        ({"cron": "0 9 * * *", "jitter": "25h"}, BoundExceeded, "OnCron jitter"),
        ({"cron": "0 0 30 2 *"}, DeclarationError, "never fires within 5 years"),
        ({"cron": 9}, DeclarationError, "is no cron line"),
    ],
)
def test_a_bad_cron_trigger_is_refused_with_the_remedy(
    options: dict[str, object], error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        OnCron(**options)  # type: ignore[arg-type]


def test_jitter_is_counted_in_microseconds() -> None:
    assert OnCron("0 9 * * *").jitter_us() == 0
    assert OnCron("0 9 * * *", jitter="30s").jitter_us() == 30_000_000


def test_jitter_may_be_a_timedelta() -> None:
    assert OnCron("0 9 * * *", jitter=timedelta(seconds=30)).jitter_us() == 30_000_000
    assert OnCron("0 9 * * *", jitter=timedelta(microseconds=1)).jitter_us() == 1
    assert OnCron("0 9 * * *", jitter=timedelta(days=1)).jitter_us() == 86_400_000_000


# --- as the store keeps them


@pytest.mark.parametrize(
    "trigger",
    [
        OnEvent("a/b"),
        OnEvent("a/*", "event.data.n > 1"),
        OnCron("*/5 * * * *"),
        OnCron("0 9 * * 1-5", "Europe/Paris", "30s", "all"),
        OnCron("0 9 * * *", jitter=timedelta(seconds=30)),
    ],
)
def test_a_trigger_comes_back_from_the_store_as_it_was(trigger: OnEvent | OnCron) -> None:
    assert read_trigger(json.loads(json.dumps(trigger_json(trigger)))) == trigger


FULL = FlowDefinition(
    "f", "label", (OnEvent("a/b"), OnCron("0 9 * * *")), 5, "v2", {"queue": "slow", "priority": 3}, "g"
)


def test_a_definition_comes_back_from_the_store_as_it_was() -> None:
    assert read_definition("f", FULL.text()) == FULL
    assert read_definition("f", FULL.text()).hash == FULL.hash


def test_what_a_newer_version_added_is_ignored() -> None:
    newer = json.dumps({**json.loads(FULL.text()), "invented_later": {"x": 1}})

    assert read_definition("f", newer) == FULL


def test_what_an_older_version_lacked_has_its_default() -> None:
    older = json.dumps({"triggers": [{"event": "a/b"}]})

    assert read_definition("f", older) == FlowDefinition("f", triggers=(OnEvent("a/b"),))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "g"},
        {"label": "other"},
        {"triggers": (OnEvent("a/b"),)},
        {"retries": 4},
        {"version": "v3"},
        {"send": {"queue": "fast"}},
        {"failure_of": None},
    ],
)
def test_any_change_of_a_definition_changes_its_hash(change: dict[str, object]) -> None:
    fields = {name: getattr(FULL, name) for name in FULL.__slots__}

    assert FlowDefinition(**{**fields, **change}).hash != FULL.hash  # type: ignore[arg-type]


def test_crons_are_numbered_by_their_place_among_the_triggers() -> None:
    assert FULL.crons == ((1, OnCron("0 9 * * *")),)
    assert FULL.events == (OnEvent("a/b"),)
