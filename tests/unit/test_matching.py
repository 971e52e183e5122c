"""Promises of matching: which flows an event starts, by name, pattern and condition, and never in a circle."""

from typing import Any

import pytest

from celeryflows.engine.matching import TriggerIndex
from celeryflows.model.events import StoredEvent
from celeryflows.model.flows import FlowDefinition
from celeryflows.model.triggers import OnEvent


def event(name: str = "order/paid", data: dict[str, Any] | None = None) -> StoredEvent:
    return StoredEvent("01E", None, name, "", data or {}, 1_772_366_400_000_000, None)


def flow(name: str, *triggers: OnEvent, failure_of: str | None = None) -> FlowDefinition:
    return FlowDefinition(name, triggers=triggers, failure_of=failure_of)


def started(event: StoredEvent, *flows: FlowDefinition) -> list[str]:
    return [f.name for f in TriggerIndex.of(flows).starts(event).flows]


# --- flows


def test_an_event_starts_every_flow_that_asks_for_it() -> None:
    flows = [flow("a", OnEvent("order/paid")), flow("b", OnEvent("order/lost")), flow("c", OnEvent("order/*"))]

    assert started(event(), *flows) == ["a", "c"]


def test_a_flow_with_two_matching_triggers_starts_once() -> None:
    assert started(event(), flow("a", OnEvent("order/paid"), OnEvent("order/*"), OnEvent("order/paid"))) == ["a"]


def test_the_second_trigger_counts_where_the_firsts_condition_is_false_or_cannot_be_judged() -> None:
    refusing = OnEvent("order/paid", "event.data.total > 100")
    broken = OnEvent("order/paid", "event.data.who > 1")
    found = TriggerIndex.of([flow("a", refusing, broken, OnEvent("order/*"))]).starts(
        event(data={"total": 1, "who": "x"})
    )

    assert [f.name for f in found.flows] == ["a"]
    assert len(found.problems) == 1


def test_a_condition_is_judged_for_events_of_its_own_name_only() -> None:
    index = TriggerIndex.of([flow("a", OnEvent("order/paid", "event.data.total > 1"))])

    assert index.starts(event("order/lost", {"total": "much"})).problems == ()


@pytest.mark.parametrize(
    ("condition", "data", "does"),
    [
        ("event.data.total > 100", {"total": 101}, True),
        ("event.data.total > 100", {"total": 100}, False),
        ("event.data.coupon == null", {}, True),
        ("event.data.user.plan == 'pro'", {}, False),
        ("event.data.user.plan == 'pro'", {"user": {"plan": "pro"}}, True),
        ("event.name == 'order/paid'", {}, True),
        ("event.ts == 1772366400000", {}, True),
        ("event.id == '01E'", {}, True),
        ("event.v == null", {}, True),
    ],
)
def test_a_condition_sees_the_events_json_form(condition: str, data: dict[str, Any], does: bool) -> None:
    found = TriggerIndex.of([flow("a", OnEvent("order/paid", condition))]).starts(event(data=data))

    assert [f.name for f in found.flows] == (["a"] if does else [])
    assert found.problems == ()


@pytest.mark.parametrize("data", [{}, {"total": None}, {"total": "much"}, {"total": [1]}, {"total": {}}])
def test_a_condition_that_cannot_be_judged_is_false_and_tells_why(data: dict[str, Any]) -> None:
    found = TriggerIndex.of([flow("a", OnEvent("order/paid", "event.data.total > 100"))]).starts(event(data=data))

    assert found.flows == ()
    assert len(found.problems) == 1
    assert found.problems[0].startswith("flow a: ")


def test_a_condition_that_is_no_truth_is_no_match_and_tells_why() -> None:
    found = TriggerIndex.of([flow("a", OnEvent("order/paid", "event.data.total"))]).starts(event(data={"total": 5}))

    assert found.flows == ()
    assert len(found.problems) == 1


def test_one_flows_unevaluable_condition_harms_no_other_flow() -> None:
    flows = [flow("a", OnEvent("order/paid", "event.data.x > 1")), flow("b", OnEvent("order/paid"))]

    assert started(event(data={"x": "text"}), *flows) == ["b"]


def test_the_index_knows_who_listens() -> None:
    index = TriggerIndex.of([flow("a", OnEvent("order/paid")), flow("b", OnEvent("shop/*"))])

    assert index.listens("order/paid")
    assert index.listens("shop/opened")
    assert not index.listens("order/lost")


# --- our own events


def failed(of: str, after: StoredEvent | None = None) -> StoredEvent:
    return event("flows/run.failed", {"flow": of, "event": (after or event()).scope()})


def test_a_flow_is_not_started_by_its_own_failure() -> None:
    watch = flow("watch", OnEvent("flows/run.failed"))

    assert started(failed("other"), watch) == ["watch"]
    assert started(failed("watch"), watch) == []


def test_two_watchers_that_fail_do_not_start_each_other_for_ever() -> None:
    flows = [flow("a", OnEvent("flows/run.failed")), flow("b", OnEvent("flows/run.*"))]
    first = failed("order")
    second = failed("a", after=first)
    third = failed("b", after=second)

    assert started(first, *flows) == ["a", "b"]
    assert started(second, *flows) == ["b"]
    assert started(third, *flows) == []


def test_a_failure_handler_is_started_by_its_own_flows_failure_alone() -> None:
    handler = flow("order.on_failure", OnEvent("flows/run.failed"), failure_of="order")

    assert started(failed("order"), handler) == ["order.on_failure"]
    assert started(failed("other"), handler) == []
