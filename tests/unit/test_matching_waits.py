"""Promises of matching waits: equal is equal as JSON, and neither the hash nor the look back hides a match."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeryflows.codec import canonical, event_json
from celeryflows.engine.matching import answers, wait_hashes
from celeryflows.model.events import StoredEvent
from celeryflows.model.waits import OpenWait, WaitSpec, match_hash, match_value, value_at


def event(name: str = "order/paid", data: dict[str, Any] | None = None) -> StoredEvent:
    return StoredEvent("01E", None, name, "", data or {}, 1_772_366_400_000_000, None)


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
