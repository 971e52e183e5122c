"""The codec: what is stored comes back, and what cannot be stored is refused where it lies."""

import json
import math
import threading
from collections import OrderedDict, UserDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, RootModel

from celeryflows.codec import canonical, dumps, event_json, loads, parse_wire, roundtrip
from celeryflows.errors import InvalidEvent, NotStorable, SchemaMismatch

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["$flows", "$$flows", "$$$flows", "$flow", "flows", "$", "", "\x00", "a.b"]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
OFFSETS = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TAGGED = (
    st.datetimes(timezones=st.none() | OFFSETS)
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.binary(max_size=20)
)


def trees(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4))


PLAIN = trees(SCALARS)


def same(one: Any, other: Any) -> bool:
    """Equal, and of the same types all the way down: 1, 1.0 and True differ here."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    return bool(one == other)


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Mood(StrEnum):
    GOOD = "good"


class Odd(str, Enum):  # noqa: UP042
    """Its text and its value differ."""

    ONE = "one"

    def __new__(cls, text: str) -> "Odd":
        member = str.__new__(cls, text)
        member._value_ = text.upper()
        return member


class Name(str):
    __slots__ = ()


class Count(int):
    def __repr__(self) -> str:
        return "many"


class Pair(NamedTuple):
    left: int
    right: int


@dataclass
class Line:
    sku: str
    count: int
    at: datetime | None = None


class Order(BaseModel):
    id: UUID
    lines: list[Line] = []
    tags: set[str] = set()


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
KEY = UUID("12345678-1234-5678-1234-567812345678")


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


# Round trips


@given(trees(SCALARS | TAGGED))
def test_every_storable_value_comes_back_as_itself(value: Any) -> None:
    assert same(loads(dumps(value)), value)


@given(PLAIN)
def test_plain_values_without_our_key_are_stored_as_compact_json(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if "$flows" not in text:
        assert dumps(value) == text


@given(trees(SCALARS | TAGGED | st.tuples(SCALARS, SCALARS) | st.frozensets(st.integers(0, 9))))
def test_a_roundtrip_gives_the_text_and_what_loads_makes_of_it(value: Any) -> None:
    text, decoded = roundtrip(value)
    assert text == dumps(value)
    assert same(decoded, loads(text))
    assert same(loads(dumps(decoded)), decoded)


@pytest.mark.parametrize("value", [1.0, -0.0, 1, True, None, "", "ü\x00\u2028", 2**63 - 1, -(2**63), 1e308, 5e-324])
def test_scalars_keep_their_type_and_sign(value: Any) -> None:
    assert same(roundtrip(value)[1], value)
    assert same(loads(dumps({"in": [value]})), {"in": [value]})


@pytest.mark.parametrize(
    "value",
    [
        {"$flows": ["datetime", "2026-01-01T00:00:00"]},
        {"$flows": 1, "other": 2},
        {"$$flows": {"$flows": None}},
        {"a": "$flows"},
        [{"$flows": ["bytes", "aGk="]}, b"hi"],
        {"$flowsy": 1, "x$flows": 2},
    ],
)
def test_a_users_own_key_that_looks_like_ours_comes_back_as_it_was(value: Any) -> None:
    assert same(loads(dumps(value)), value)


def test_a_zone_comes_back_as_its_offset_at_the_same_instant() -> None:
    late = datetime(2026, 10, 25, 2, 30, 0, 1, tzinfo=ZoneInfo("Europe/Berlin"), fold=1)
    again = loads(dumps(late))
    assert again.utcoffset() == timedelta(hours=1)
    assert again.astimezone(UTC) == late.astimezone(UTC)


@pytest.mark.parametrize(
    ("value", "decoded"),
    [
        ((1, (2, "x")), [1, [2, "x"]]),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({"b", "a"}), ["a", "b"]),
        ({date(2026, 2, 1), date(2026, 1, 1)}, [date(2026, 1, 1), date(2026, 2, 1)]),
        ({1, "a", None}, ["a", 1, None]),
        ({frozenset({2}), frozenset({1, 3})}, [[1, 3], [2]]),
        (set(), []),
        (Pair(1, 2), [1, 2]),
        (Line("a", 2), {"sku": "a", "count": 2, "at": None}),
        ([Line("a", 2, NOON)], [{"sku": "a", "count": 2, "at": NOON}]),
        (Order(id=KEY, lines=[Line("a", 1)], tags={"y", "x"}),
         {"id": KEY, "lines": [{"sku": "a", "count": 1, "at": None}], "tags": ["x", "y"]}),
        (RootModel[list[int]]([1, 2]), [1, 2]),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (Mood.GOOD, "good"),
        (Odd.ONE, "ONE"),
        (Name("n"), "n"),
        (Count(7), 7),
        ({Name("k"): Count(7)}, {"k": 7}),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (UserDict({"a": 1}), {"a": 1}),
        (bytearray(b"hi"), b"hi"),
        (timedelta.max, timedelta.max),
        (time(1, 2, 3, 4, tzinfo=UTC), time(1, 2, 3, 4, tzinfo=UTC)),
        (Decimal("1.10"), Decimal("1.10")),
    ],
)  # fmt: skip
def test_types_beyond_json_come_back_in_their_json_form(value: Any, decoded: Any) -> None:
    assert same(loads(dumps(value)), decoded)
    assert same(loads(dumps({"in": [value]})), {"in": [decoded]})


def test_a_set_is_stored_in_one_order_however_it_was_filled() -> None:
    one, other = {"a", 1, None, "b"}, {None, "b", "a", 1}
    assert dumps(one) == dumps(other) == '["a","b",1,null]'


def test_a_kind_that_a_newer_release_wrote_is_refused_with_a_remedy() -> None:
    with pytest.raises(SchemaMismatch, match=r"'complex'.*Update this process"):
        loads('{"$flows":["complex","1j"]}')


def test_one_list_used_twice_is_no_circle() -> None:
    shared = [1]
    assert loads(dumps({"a": shared, "b": (shared, shared)})) == {"a": [1], "b": [[1], [1]]}


# Refusals


class Lock:
    pass


def rows() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("value", "path", "message"),
    [
        ({"items": [0, 1, 2, {"when": Lock()}]}, "$.items[3].when", r"test_codec\.Lock has no JSON form.*plain data"),
        ({"a b": object()}, '$["a b"]', "object has no JSON form"),
        (float("nan"), "$", "NaN"),
        ([float("inf")], "$[0]", "Infinity"),
        ({"x": Decimal("NaN")}, "$.x", "NaN"),
        ({"n": 2**63}, "$.n", "outside 64 bits.*text or Decimal"),
        ([[-(2**63) - 1]], "$[0][0]", "outside 64 bits"),
        pytest.param(10**5000, "$", "outside 64 bits", id="huge"),
        ({"t": "\ud800"}, "$.t", "lone surrogate"),
        ({"\udfff": 1}, '$["\\udfff"]', "lone surrogate"),
        ({1: "a"}, "$", "a key that is int, not text.*str"),
        ({"a": {None: 1}}, "$.a", "NoneType"),
        ({"a": [{True: 1}]}, "$.a[0]", "bool"),
        ({1.5: 1}, "$", "float"),
        pytest.param({10**5000: 1}, "$", "int", id="huge key"),
        ({(1, 2): 1}, "$", "tuple"),
        ([rows()], "$[0]", "generator.*list"),
        (deque([1]), "$", "deque.*list"),
        (rows, "$", "function.*what it returns"),
        (Line, "$", "what it returns"),
        (Order, "$", "what it returns"),
        (1j, "$", "complex"),
        ({Line}, "$[0]", "what it returns"),
        ({"set": {1, Lock()}}, "$.set", "Lock"),
        (Line("a", 2**64), "$.count", "64 bits"),
        (ValueError("x"), "$", "ValueError"),
        ({"d": {"l": threading.Lock()}}, "$.d.l", "lock"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_path_type_and_remedy(value: Any, path: str, message: str) -> None:
    with pytest.raises(NotStorable, match=message) as caught:
        dumps(value, what="the value of step 'a'")
    assert caught.value.path == path
    assert str(caught.value).startswith(f"the value of step 'a' at {path}: ")


def test_a_coroutine_is_refused_with_the_remedy_to_await_it() -> None:
    async def work() -> None: ...

    coroutine = work()
    with pytest.raises(NotStorable, match="Await it first"):
        dumps([coroutine])
    coroutine.close()


def test_a_model_that_cannot_dump_itself_is_refused_with_its_reason() -> None:
    class Broken(BaseModel):
        def model_dump(self, **options: Any) -> dict[str, Any]:
            raise RuntimeError("out of ink")

    with pytest.raises(NotStorable, match="out of ink") as caught:
        dumps({"m": Broken()})
    assert caught.value.path == "$.m"


def test_a_hundred_levels_are_stored_and_one_more_is_refused() -> None:
    assert loads(dumps(nested(100))) == nested(100)
    with pytest.raises(NotStorable, match="nested deeper than 100"):
        dumps(nested(101))
    with pytest.raises(NotStorable, match="nested deeper than 100"):
        dumps(nested(100_000))


def test_the_exact_walk_counts_levels_as_the_fast_one_does() -> None:
    deepest: list[Any] = nested(100)
    inner = deepest
    while inner:
        inner = inner[0]
    inner.append(b"bytes take the exact walk")
    assert loads(dumps(deepest)) == deepest
    with pytest.raises(NotStorable, match="nested deeper than 100"):
        dumps({"one more": deepest})


def list_in_itself() -> object:
    value: list[object] = []
    value.append({"again": value})
    return value


def dict_in_itself() -> object:
    value: dict[str, object] = {}
    value["me"] = value
    return value


def line_in_itself() -> object:
    line = Line("a", 1)
    line.at = line  # type: ignore[assignment]
    return [line]


@pytest.mark.parametrize("make", [list_in_itself, dict_in_itself, line_in_itself])
def test_a_circle_is_called_a_circle(make: Callable[[], object]) -> None:
    with pytest.raises(NotStorable, match="circular reference"):
        dumps(make())


# Events


@given(st.dictionaries(TEXT, PLAIN, max_size=4))
def test_the_data_of_an_event_is_kept_and_its_text_reads_the_same(data: dict[str, Any]) -> None:
    text, decoded = event_json(data)
    assert same(decoded, data)
    assert same(loads(text), data)
    assert decoded is not data


def test_no_data_is_an_empty_object() -> None:
    assert event_json(None) == ("{}", {})


def test_what_has_an_obvious_text_form_becomes_text_in_events() -> None:
    data = {
        "at": datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=1))),
        "day": date(2026, 1, 1),
        "time": time(9, 30),
        "id": KEY,
        "price": Decimal("1.10"),
        "colour": Colour.RED,
        "line": Line("a", 1),
        "order": Order(id=KEY, tags={"x"}),
        "pair": (1, 2),
    }
    assert event_json(data)[1] == {
        "at": "2026-01-01T12:00:00+01:00",
        "day": "2026-01-01",
        "time": "09:30:00",
        "id": str(KEY),
        "price": "1.10",
        "colour": "red",
        "line": {"sku": "a", "count": 1, "at": None},
        "order": {"id": str(KEY), "lines": [], "tags": ["x"]},
        "pair": [1, 2],
    }


def test_a_model_may_be_the_data_of_an_event() -> None:
    text, decoded = event_json(Order(id=KEY))
    assert text == f'{{"id":"{KEY}","lines":[],"tags":[]}}'
    assert decoded == {"id": str(KEY), "lines": [], "tags": []}


def test_other_mappings_may_be_the_data_of_an_event() -> None:
    assert event_json(MappingProxyType({"a": 1})) == ('{"a":1}', {"a": 1})


@pytest.mark.parametrize("data", [[1], "text", 1, True, RootModel[list[int]]([1]), Colour.RED])
def test_data_that_is_no_object_is_refused(data: Any) -> None:
    with pytest.raises(InvalidEvent, match=r"data of event 4 is .*Give an object") as caught:
        event_json(data, index=4)
    assert caught.value.index == 4


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"file": b"x"}, r"data of event 7 at \$\.file: bytes has no JSON form.*base64"),
        ({"at": [datetime(2026, 1, 1)]}, r"at \$\.at\[0\]: a datetime without zone.*tzinfo=UTC"),
        ({"span": timedelta(1)}, r"at \$\.span: .*total_seconds"),
        ({"n": 2**63}, r"at \$\.n: .*64 bits"),
        ({"n": float("nan")}, r"at \$\.n: NaN"),
        ({"t": ["\ud800"]}, r"at \$\.t\[0\]: .*surrogate"),
        ({1: 2}, r"at \$: a key that is int"),
        ({"deep": nested(100)}, "nested deeper than 100"),
        (object(), "data of event 7.*object"),
    ],
)
def test_data_that_cannot_be_an_event_is_refused_with_index_and_path(data: Any, message: str) -> None:
    with pytest.raises(InvalidEvent, match=message) as caught:
        event_json(data, index=7)
    assert caught.value.index == 7


def test_an_event_cannot_smuggle_a_tag_into_the_store() -> None:
    data = {"$flows": ["datetime", "not a date"]}
    text, decoded = event_json(data)
    assert decoded == loads(text) == data


# Canonical text


@given(PLAIN)
def test_canonical_text_ignores_the_order_of_keys(value: Any) -> None:
    def turned(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: turned(node[key]) for key in reversed(list(node))}
        return [turned(child) for child in node] if isinstance(node, list) else node

    assert canonical(turned(value)) == canonical(value)


@given(PLAIN, PLAIN)
def test_canonical_text_tells_different_values_apart(one: Any, other: Any) -> None:
    def boxed(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: boxed(child) for key, child in node.items()}
        if isinstance(node, list):
            return [boxed(child) for child in node]
        return (isinstance(node, bool), node)

    assert (canonical(one) == canonical(other)) == (boxed(one) == boxed(other))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (1, "1"),
        (-0.0, "0"),
        (1.5, "1.5"),
        (True, "true"),
        ("1", '"1"'),
        ({"b": [2.0, {"d": 1, "c": None}], "a": "ü"}, '{"a":"ü","b":[2,{"c":null,"d":1}]}'),
        ((1, 2), "[1,2]"),
        (1e20, "100000000000000000000"),
    ],
)
def test_canonical_text_is_sorted_compact_and_levels_numbers(value: Any, text: str) -> None:
    assert canonical(value) == text


def test_canonical_text_never_changes_what_it_was_given() -> None:
    value = {"a": [1.0]}
    canonical(value)
    assert same(value, {"a": [1.0]})


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], "\ud800", 2**64, object()])
def test_canonical_text_of_what_has_no_json_form_is_refused(value: Any) -> None:
    with pytest.raises(NotStorable):
        canonical(value)


# The wire


@given(PLAIN)
def test_every_plain_value_is_read_from_the_wire(value: Any) -> None:
    assert same(parse_wire(json.dumps(value)), value)
    assert same(parse_wire(json.dumps(value, ensure_ascii=False).encode()), value)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "not valid JSON"),
        ("{'a': 1}", "not valid JSON.*column 2"),
        ("{} x", "not valid JSON.*Extra data"),
        (b"\xff", "not UTF-8.*byte 0"),
        ('{"a":1}'.encode("utf-16"), "not UTF-8"),
        ('{"a":1,"b":{"x":1,"x":1}}', 'key "x" stands twice'),
        ('{"a":1,"\\u0061":2}', 'key "a" stands twice'),
        ('{"a":NaN}', r"at \$\.a: NaN"),
        ("[-Infinity]", r"at \$\[0\]"),
        ("[1e999]", r"at \$\[0\]: .*Infinity"),
        ('{"n":9223372036854775808}', r"at \$\.n: .*64 bits"),
        pytest.param("1" * 5000, "not valid JSON", id="5000 digits"),
        ('{"t":"\\ud800"}', r"at \$\.t: .*surrogate"),
        ('{"\\uDFFF":1}', "surrogate"),
        ('"\ud800"', "surrogate"),
        pytest.param("[" * 101 + "]" * 101, "deeper than 100", id="101 lists"),
        pytest.param("[" * 100_000 + "]" * 100_000, "deeper than 100", id="100000 lists"),
        pytest.param('{"a":' * 100_000 + "1" + "}" * 100_000, "deeper than 100", id="100000 objects"),
    ],
)
def test_the_wire_refuses_what_is_not_strict_json(body: bytes | str, message: str) -> None:
    with pytest.raises(InvalidEvent, match=message):
        parse_wire(body)


def test_the_wire_takes_what_is_just_within_its_bounds() -> None:
    assert parse_wire("[" * 100 + "]" * 100) == nested(100)
    assert parse_wire("[9223372036854775807,-9223372036854775808]") == [2**63 - 1, -(2**63)]
    assert parse_wire('"\\ud83d\\ude00\\u0000"') == "\U0001f600\x00"
    assert parse_wire('{"$flows":["bytes","aGk="]}') == {"$flows": ["bytes", "aGk="]}


@given(st.binary(max_size=40) | st.text(max_size=40))
def test_the_wire_answers_rubbish_with_an_invalid_event_alone(body: bytes | str) -> None:
    try:
        value = parse_wire(body)
    except InvalidEvent:
        return
    assert loads(dumps(value)) == value
