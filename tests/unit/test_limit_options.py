"""Limits are checked where they are declared, and are the same again out of the store."""

import json

import pytest

from celeryflows import (
    Batch,
    Concurrency,
    Debounce,
    DeclarationError,
    ExpressionError,
    Priority,
    RateLimit,
    Singleton,
    Throttle,
)
from celeryflows.model.flows import FlowDefinition, read_definition
from celeryflows.model.limit_options import is_ours, parse_limits
from celeryflows.model.limits import NONE

EVERYTHING = {
    "concurrency": [Concurrency(5, key="event.data.user"), Concurrency(10, key="'mail'", scope="app")],
    "throttle": Throttle(5, "1s", key="event.data.a", burst=3),
    "rate_limit": RateLimit(10, "1m", key="event.data.b"),
    "debounce": Debounce("30s", key="event.data.c", timeout="5m"),
    "batch": Batch(100, "5s", key="event.data.d", if_exp="event.data.e"),
    "priority": Priority("event.data.plan == 'pro' ? 120 : 0"),
    "idempotency": "event.data.id",
}


def test_all_limits_come_back_out_of_the_store_as_they_were() -> None:
    alone = {"singleton": Singleton("cancel", key="event.data.k")}
    for options in (EVERYTHING, alone):
        definition = FlowDefinition("shop.order", limits=parse_limits(options, "shop.order"))
        again = read_definition("shop.order", definition.text())
        assert again == definition
        assert again.hash == definition.hash


def test_a_flow_without_limits_keeps_the_hash_that_it_had() -> None:
    assert "limits" not in json.loads(FlowDefinition("shop.order").text())
    assert parse_limits({}, "f") == NONE
    assert not NONE


def test_a_changed_number_changes_the_hash() -> None:
    texts = {FlowDefinition("f", limits=parse_limits({"concurrency": n}, "f")).hash for n in (1, 2, 3)}
    assert len(texts) == 3


def test_what_a_newer_version_added_is_ignored() -> None:
    definition = FlowDefinition("f", limits=parse_limits(EVERYTHING, "f"))
    value = json.loads(definition.text())
    value["limits"]["throttle"]["smooth"] = True
    value["limits"]["quota"] = {"limit": 1}
    assert read_definition("f", json.dumps(value)) == definition


def test_a_number_is_a_concurrency_limit() -> None:
    assert parse_limits({"concurrency": 5}, "f").concurrency == (Concurrency(5),)


@pytest.mark.parametrize("limit", [0, -1, 1_000_001, True, 1.5, "5"])
def test_a_limit_is_a_whole_number_up_to_a_million(limit: object) -> None:
    for options in (
        {"concurrency": Concurrency(limit)},  # type: ignore[arg-type]
        {"throttle": Throttle(limit, "1s")},  # type: ignore[arg-type]
        {"throttle": Throttle(1, "1s", burst=limit)},  # type: ignore[arg-type]
        {"rate_limit": RateLimit(limit, "1s")},  # type: ignore[arg-type]
    ):
        with pytest.raises(DeclarationError, match=r"flow 'f'.* a whole number, 1 to 1,000,000"):
            parse_limits(options, "f")


@pytest.mark.parametrize(
    "options",
    [
        {"throttle": Throttle(1, "999ms")},
        {"rate_limit": RateLimit(1, "0s")},
        {"debounce": Debounce("10ms")},
        {"debounce": Debounce("1s", timeout="1ms")},
        {"batch": Batch(2, "1ms")},
        {"throttle": Throttle(1, "367 days")},
        {"throttle": Throttle(1, 5)},  # type: ignore[arg-type]
    ],
)
def test_a_period_is_a_duration_from_a_second_to_a_year(options: dict[str, object]) -> None:
    with pytest.raises(DeclarationError, match=r"flow 'f', .*(period|timeout)"):
        parse_limits(options, "f")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"concurrency": Concurrency(1, scope="app")}, "scope='app' needs a key"),
        ({"concurrency": Concurrency(1, scope="env", key="'a'")}, "'flow' or 'app'"),  # type: ignore[arg-type]
        ({"concurrency": [1, 2]}, "the smaller one alone would hold"),
        ({"concurrency": [1, 2, 3]}, "3 limits; one or 2"),
        ({"concurrency": []}, "0 limits"),
        ({"concurrency": "5"}, "got str"),
        ({"throttle": RateLimit(1, "1s")}, r"Throttle\(5, '1s'\), got RateLimit"),
        ({"throttle": Throttle(1, "366 days", burst=1_000_000)}, "longer than can be stored"),
        ({"debounce": "30s"}, "Debounce.*got str"),
        ({"debounce": Debounce("10s", timeout="5s")}, "shorter than the period; at least 10"),
        ({"batch": Batch(0, "1s")}, "1 to 10,000"),
        ({"batch": Batch(10_001, "1s")}, "1 to 10,000"),
        ({"singleton": Singleton("wait")}, "'skip' or 'cancel'"),  # type: ignore[arg-type]
        ({"singleton": "skip"}, "Singleton.*got str"),
        ({"idempotency": 5}, "an expression"),
        ({"batch": Batch(2, "1s"), "singleton": Singleton("skip")}, "do not go together.*concurrency=1"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(options: dict[str, object], told: str) -> None:
    with pytest.raises(DeclarationError, match=told):
        parse_limits(options, "f")


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": Concurrency(1, key="event.data.")},
        {"throttle": Throttle(1, "1s", key="async.data.a")},
        {"rate_limit": RateLimit(1, "1s", key="user_id")},
        {"debounce": Debounce("1s", key="")},
        {"batch": Batch(2, "1s", if_exp="event.data.a ==")},
        {"batch": Batch(2, "1s", key="kwargs.a")},
        {"priority": Priority("nothing(1)")},
        {"singleton": Singleton("skip", key="now()")},
        {"idempotency": "event.data["},
    ],
)
def test_a_bad_expression_is_refused_with_the_flows_name(options: dict[str, object]) -> None:
    with pytest.raises(ExpressionError, match="flow 'f', "):
        parse_limits(options, "f")


def test_options_that_celery_has_too_are_ours_only_with_our_types() -> None:
    assert is_ours("rate_limit", RateLimit(1, "1s"))
    assert not is_ours("rate_limit", "10/m")
    assert not is_ours("rate_limit", None)
    assert is_ours("priority", Priority("1"))
    assert not is_ours("priority", 5)
    assert is_ours("throttle", "anything")
    assert not is_ours("queue", "mail")
