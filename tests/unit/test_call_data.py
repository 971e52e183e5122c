"""A call's arguments as an event's data, and back: the function is called as its caller called it."""

import inspect
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from celeryflows import NotStorable, OnEvent
from celeryflows.model.calls import arguments, call_data, mapped, roots
from celeryflows.model.events import FLOW_INVOKED, StoredEvent
from celeryflows.model.flows import CODE, FlowDefinition

WHEN = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
NOTHING = object()


def plain(a: Any, b: Any = 2, *, c: Any = 3) -> Any:
    return ("plain", a, b, c)


def rest(a: Any, *more: Any, **named: Any) -> Any:
    return ("rest", a, more, named)


def only(a: Any, /, b: Any = None, *more: Any) -> Any:
    return ("only", a, b, more)


def opaque(a: Any, b: Any = NOTHING) -> Any:
    return ("opaque", a, b is NOTHING)


def data_of(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
    found: dict[str, Any] = call_data(inspect.signature(fn), args, kwargs, "task 't'")
    return found


@pytest.mark.parametrize(
    ("fn", "args", "kwargs"),
    [
        (plain, (1,), {}),
        (plain, (), {"a": 1, "c": [1, {"x": None}]}),
        (plain, (1, 2), {"c": "three"}),
        (plain, (), {"a": WHEN, "b": Decimal("1.50"), "c": {"id": UUID(int=7), "raw": b"\x00\xff"}}),
        (rest, (1, 2, 3), {"x": 4}),
        (rest, (), {"a": 1, "x": WHEN}),
        (only, (1,), {}),
        (only, (1, 2, 3), {}),
        (opaque, (1,), {}),
    ],
)
def test_a_call_comes_back_as_it_was_made(fn: Callable[..., Any], args: Any, kwargs: Any) -> None:
    again, named = arguments(inspect.signature(fn), data_of(fn, *args, **kwargs))
    assert fn(*again, **named) == fn(*args, **kwargs)


def test_arguments_stand_under_their_parameters_names_however_they_were_passed() -> None:
    assert data_of(plain, 1, 5) == data_of(plain, a=1, b=5) == data_of(plain, b=5, a=1) == {"a": 1, "b": 5, "c": 3}
    assert data_of(rest, 1, 2, x=3) == {"a": 1, "more": [2], "x": 3}


def test_what_plain_json_cannot_hold_is_shown_as_text_for_keys_and_pages() -> None:
    data = data_of(plain, WHEN, b"\x00")
    assert (data["a"], data["b"], data["c"]) == ("2026-01-02T03:04:00+00:00", "AA==", 3)


def test_a_default_that_cannot_be_stored_is_left_to_the_function() -> None:
    assert data_of(opaque, 1) == {"a": 1}


def test_what_does_not_fit_is_a_type_error_at_the_call() -> None:
    with pytest.raises(TypeError, match="missing a required argument: 'a'"):
        data_of(plain)
    with pytest.raises(TypeError, match="too many positional"):
        data_of(plain, 1, 2, 3)
    with pytest.raises(TypeError, match="unexpected keyword"):
        arguments(inspect.signature(plain), {"a": 1, "z": 2})
    with pytest.raises(TypeError, match="'more' bears the name"):
        data_of(rest, 1, more=5)


def test_what_cannot_be_stored_is_refused_with_the_task_and_the_path() -> None:
    with pytest.raises(NotStorable, match=r"task 't'.*\$\.a\[1\]"):
        data_of(plain, [1, NOTHING])


def event(name: str, **data: Any) -> StoredEvent:
    return StoredEvent("e1", None, name, "{}", data, 0, None)


FLOW = FlowDefinition(
    "f",
    triggers=(OnEvent("a/*", if_exp="event.data.n > 1"), OnEvent("a/b"), OnEvent("c/d")),
    mappings=("{'to': event.data.n}", None, CODE),
)


@pytest.mark.parametrize(
    ("made", "kwargs"),
    [
        (event("a/b", n=2), {"to": 2}),
        (event("a/b", n=1), {"n": 1}),
        (event("c/d", n=1), {}),
        (event(FLOW_INVOKED, n=1), {"n": 1}),
        (event("strange/one", n=1), {"n": 1}),
    ],
)
def test_keys_see_the_arguments_that_the_first_matching_trigger_makes(made: StoredEvent, kwargs: Any) -> None:
    assert roots(FLOW, made)["kwargs"] == kwargs
    assert roots(None, made)["kwargs"] == made.data


def test_a_mapping_without_a_value_says_why() -> None:
    flow = FlowDefinition("f", triggers=(OnEvent("a/b"),), mappings=("{'to': event.data.n > 1}",))
    assert mapped(flow, event("a/b", n="text").scope())[1] is not None
    assert roots(flow, event("a/b", n="text"))["kwargs"] == {}
