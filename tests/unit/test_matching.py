"""Promises of matching: which flows an event starts, which waits it answers, and that the hash never hides a match."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeryflows.codec import canonical, event_json
from celeryflows.engine.matching import TriggerIndex, answers, wait_hashes
from celeryflows.model.events import StoredEvent
from celeryflows.model.flows import FlowDefinition
from celeryflows.model.triggers import OnEvent
from celeryflows.model.waits import OpenWait, WaitSpec, match_hash, match_value, value_at


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


# --- waits

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def wait(path: str, value: Any, name: str = "order/paid", if_exp: str | None = None) -> OpenWait:
    return OpenWait("w", "r", "k", name, path, "" if path == "" else canonical(value), if_exp, event("user/came"))


@given(JSON, JSON)
def test_the_hash_finds_exactly_the_waits_whose_value_is_equal(waited: Any, came: Any) -> None:
    open_wait, arriving = wait("data.x", waited), event(data={"x": came})
    found = match_hash("order/paid", "data.x", open_wait.value) in wait_hashes(arriving, ["data.x"])

    assert found == answers(arriving, open_wait)[0] or waited is None
    assert answers(arriving, open_wait)[0] == (canonical(waited) == canonical(came) and came is not None)


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=3), JSON.filter(lambda value: value is not None))
def test_the_piece_of_a_wait_stands_in_the_text_of_every_event_that_matches(others: dict[str, Any], value: Any) -> None:
    piece = WaitSpec("k", "a/b", "data.x", canonical(value), None, 0, 0).piece
    written = [value, float(value)] if type(value) is int else [value]

    texts = [event_json({**others, "x": equal})[0] for equal in written if canonical(equal) == canonical(value)]

    assert texts
    assert piece is None or all(piece in text for text in texts)


@pytest.mark.parametrize(
    ("waited", "came", "does"),
    [
        ("u1", "u1", True),
        ("u1", "U1", False),
        ("1", 1, False),
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        ("", "", True),
        (0, 0, True),
        (False, False, True),
        ({"a": 1, "b": 2}, {"b": 2.0, "a": 1}, True),
        ([1, 2], [2, 1], False),
        ("ü", "ü", True),
    ],
)
def test_equal_is_equal_as_json(waited: Any, came: Any, does: bool) -> None:
    arriving = event(data={"x": came})

    assert answers(arriving, wait("data.x", waited))[0] is does
    assert (match_hash("order/paid", "data.x", canonical(waited)) in wait_hashes(arriving, ["data.x"])) is does


@pytest.mark.parametrize("data", [{}, {"x": None}, {"y": 1}])
def test_an_event_without_the_field_has_no_hash_and_answers_nothing(data: dict[str, Any]) -> None:
    assert wait_hashes(event(data=data), ["data.x"]) == []
    assert answers(event(data=data), wait("data.x", None)) == (False, None)


def test_a_hash_is_of_name_path_and_value() -> None:
    hashes = {
        match_hash("a", "data.x", '"1"'),
        match_hash("b", "data.x", '"1"'),
        match_hash("a", "data.y", '"1"'),
        match_hash("a", "data.x", "1"),
        match_hash("a", "", ""),
    }

    assert len(hashes) == 5


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("data.user.id", 7),
        ("data.user", {"id": 7}),
        ("data.user.name", None),
        ("data.user.id.more", None),
        ("data.list.0", None),
        ("data", {"user": {"id": 7}, "list": [1], "a.b": 2}),
        ("data.a.b", None),
        ("user.id", None),
    ],
)
def test_a_path_walks_objects_only(path: str, found: Any) -> None:
    assert value_at({"user": {"id": 7}, "list": [1], "a.b": 2}, path) == found


def test_a_wait_by_name_alone_has_the_empty_value() -> None:
    assert match_value({"x": 1}, "") == ""
    assert answers(event(), wait("", "")) == (True, None)


@pytest.mark.parametrize(
    ("condition", "answer"),
    [
        ("async.data.n > 1", (True, None)),
        ("async.data.n > 2", (False, None)),
        ("async.data.n == event.data.wanted", (False, None)),
        ("event.name == 'user/came' && async.name == 'order/paid'", (True, None)),
        ("async.data.missing == null", (True, None)),
    ],
)
def test_a_condition_sees_the_trigger_and_the_arriving_event(condition: str, answer: tuple[bool, str | None]) -> None:
    assert answers(event(data={"n": 2}), wait("", "", if_exp=condition)) == answer


def test_a_condition_that_cannot_be_judged_is_false_with_its_reason() -> None:
    truth, problem = answers(event(data={"n": "two"}), wait("", "", if_exp="async.data.n > 1"))

    assert truth is False
    assert problem
