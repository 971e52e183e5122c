"""Promises of the small language: what is refused at declaration, how missing fields read, what an evaluation costs."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeryflows.errors import ExpressionError, FlowsError
from celeryflows.expression_paths import FUNCTIONS, METHODS, TYPES
from celeryflows.expression_tokens import tokenize
from celeryflows.expressions import (
    MAX_LOOP,
    Expression,
    Unevaluable,
    compile_expression,
    condition,
    value_or_none,
)

ROOTS = frozenset({"event", "async"})


def compiled(source: str, *, strict: bool = False) -> Expression:
    return compile_expression(source, names=ROOTS, strict=strict)


def value(source: str, data: Any = None, arriving: Any = None) -> Any:
    scope = {"event": {"name": "a/b", "data": data, "id": "e1", "ts": 5, "v": None}, "async": {"data": arriving}}
    return compiled(source).evaluate(scope)


def refusal(source: str, *, strict: bool = False) -> ExpressionError:
    with pytest.raises(ExpressionError) as caught:
        compile_expression(source, names=ROOTS, what="flow 'ship', if_exp", strict=strict)
    return caught.value


# --- refused at declaration


@pytest.mark.parametrize(
    ("source", "column"),
    [
        ("event.data.a ==", 16),
        ("1 + * 2", 5),
        ("event.data.a == 'b", 17),
        ("true &&\n  event.x +", 12),
        ("[1, 2", 6),
        ("event.data.x = 1", 14),
        ("has(event)", 5),
        ("99999999999999999999", 1),
        ("if", 1),
        ("event.@x", 7),
        (".event.data", 1),
    ],
)
def test_a_syntax_error_names_its_column(source: str, column: int) -> None:
    error = refusal(source)
    assert error.column == column
    assert f"column {column}" in str(error)


def test_an_error_names_what_it_was_for_the_text_and_a_remedy_in_one_line() -> None:
    text = str(refusal("event.data.total >> 5"))
    assert text.startswith("flow 'ship', if_exp: ")
    assert "'event.data.total >> 5'" in text
    assert "Expressions are CEL" in text
    assert "\n" not in text
    assert "expecting {" not in text


def test_a_long_text_is_shortened_in_the_message() -> None:
    assert len(str(refusal("event.data.total >> 5 " * 100))) < 600


@pytest.mark.parametrize(
    ("source", "name", "column"),
    [
        ("evnt.data.a == 1", "evnt", 1),
        ("event.data.a == data.b", "data", 17),
        ("event.data.items.exists(i, i > 1) && i > 2", "i", 38),
        ("{x: 1}", "x", 2),
        ("[1].map(i, j)", "j", 12),
        ("math.abs(event.data.a)", "math", 1),
        ("has(evnt.data)", "evnt", 5),
        ("_p0 == 1", "_p0", 1),
    ],
)
def test_an_unknown_name_is_refused(source: str, name: str, column: int) -> None:
    error = refusal(source)
    assert f"unknown name {name!r}" in str(error) or f"unknown method {name!r}" in str(error)
    assert error.column == column


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    assert "Did you mean event?" in str(refusal("evnt.data.a"))
    assert "async, event" in str(refusal("zzz"))


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("foo(1)", "foo"),
        ("event.data.a.foo()", "foo"),
        ("event.data.a.upper() == 'A'", "upper"),
        ("len(event.data.a)", "len"),
        ("max(1, 2)", "max"),
        ("has(event.data.a) && sizeof(event.data)", "sizeof"),
        ("exists(event.data.a, x)", "exists"),
        ("event.data.has(event.data.a)", "has"),
        ("contains('abc', 'b')", "contains"),
    ],
)
def test_an_unknown_function_is_refused(source: str, name: str) -> None:
    assert f"'{name}'" in str(refusal(source))


@pytest.mark.parametrize(
    "source", ["[1].exists(i)", "[1].all(i, event.id, i > 1)", "[1].filter(i, true, i)", "[1].map(1, 2)"]
)
def test_a_loop_with_wrong_arguments_is_refused(source: str) -> None:
    refusal(source)


def test_a_message_type_is_refused() -> None:
    assert "unknown type 'Foo'" in str(refusal("Foo{a: 1}"))


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("event.id and true", "&&"),
        ("event.id or true", "||"),
        ("event.id == None", "null"),
        ("True", "true"),
    ],
)
def test_python_habits_are_answered_in_cel(source: str, hint: str) -> None:
    assert hint in str(refusal(source)).rpartition(" in '")[2]


@pytest.mark.parametrize("source", ["", "  ", "\n\t"])
def test_an_empty_text_is_refused(source: str) -> None:
    assert "empty" in str(refusal(source))


def test_over_ten_thousand_characters_are_refused() -> None:
    assert compiled("'" + "x" * 9_998 + "'")
    assert "10,000" in str(refusal("'" + "x" * 9_999 + "'"))


NESTED = {
    "parentheses": ("(", "1", ")"),
    "lists": ("[", "1", "]"),
    "maps": ("{1:", "1", "}"),
    "calls": ("size(", "'1'", ")"),
    "not": ("!", "true", ""),
    "minus": ("- ", "event.ts", ""),
    "ternaries": ("true?1:", "1", ""),
    "ternaries in the middle": ("(true?", "1", ":1)"),
    "loops": ("[1].map(x,", "x", ")"),
    "mixed": ("(-", "1", ")"),
}


@pytest.mark.parametrize("kind", NESTED)
def test_nesting_over_fifty_is_refused_and_never_reaches_the_library(kind: str) -> None:
    before, inside, after = NESTED[kind]
    assert compiled(before * 24 + inside + after * 24)
    for depth in (51, 300, 9_990 // len(before + after)):
        assert "nested deeper than 50" in str(refusal(before * depth + inside + after * depth))


def test_brackets_inside_texts_and_comments_are_not_nesting() -> None:
    assert value("'" + "(" * 200 + "'") == "(" * 200
    assert value("1 // " + "(" * 200) == 1
    assert value("r'\\' + '" + "[" * 200 + "'") == "\\" + "[" * 200


@pytest.mark.parametrize("joint", ["+", "*", "==", ".a", "[0]", " in "])
def test_a_row_of_operators_too_long_for_a_small_stack_is_refused(joint: str) -> None:
    suffix = joint.endswith(("a", "]"))
    row = "event.ts" + joint * 600 if suffix else joint.join(["event.ts"] * 600)
    assert "500 operators in a row" in str(refusal(row))


def test_a_long_row_of_alternatives_is_fine() -> None:
    row = " || ".join(f"event.data.a == {number}" for number in range(400))
    assert value(row, {"a": 399}) is True


def test_the_deepest_text_that_is_taken_fits_a_small_stack() -> None:
    script = """
import threading
from celeryflows.expressions import compile_expression
def deepest():
    for source in ("(" * 50 + "1" + ")" * 50, "+".join(["1"] * 490), "[1].map(x," * 49 + "x" + ")" * 49,
                   "[" * 40 + "+".join(["1"] * 400) + "]" * 40):
        compile_expression(source, names={"event"}).evaluate({})
threading.stack_size(512 * 1024)
thread = threading.Thread(target=deepest)
thread.start()
thread.join()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_loops_in_loops_are_refused_from_outside_only() -> None:
    nested = "event.data.a.exists(x, event.data.b.exists(y, x == y))"
    assert value(nested, {"a": [1, 2], "b": [2]}) is True
    assert "loop in a loop" in str(refusal(nested, strict=True))
    assert compiled("event.data.a.filter(x, x > 1).exists(y, y > 2)", strict=True)


@given(st.text(alphabet="event.data ()[]{}!-?:'\"\\rbux0123,&|=<>+*/%\n", max_size=60))
def test_no_text_does_worse_than_an_expression_error(source: str) -> None:
    try:
        expression = compiled(source)
    except ExpressionError:
        return
    value_or_none(expression, {"event": {"data": {}}})


# --- names and paths


def test_an_expression_tells_its_roots_and_paths() -> None:
    expression = compiled("event.data.user.id == async.data['x-y'] && has(event.data.items[0].sku)")
    assert expression.source.startswith("event.data.user.id")
    assert expression.names == {"event", "async"}
    assert set(expression.paths) == {
        ("event", "data", "user", "id"),
        ("async", "data", "x-y"),
        ("event", "data", "items", 0, "sku"),
    }


def test_method_names_texts_and_loop_variables_are_no_paths() -> None:
    expression = compiled("event.data.items.filter(async, async.x == 'event.id').size() > 0 // event.v")
    assert expression.paths == (("event", "data", "items"),)
    assert expression.names == {"event"}


def test_a_path_may_be_spread_over_lines_and_comments() -> None:
    assert value("event . data // here\n . a [ 'b' ]", {"a": {"b": 3}}) == 3


def test_async_is_an_ordinary_name() -> None:
    assert value("event.data.id == async.data.id", {"id": 1}, {"id": 1}) is True


def test_the_same_text_is_compiled_once() -> None:
    assert compiled("event.id == 'once'") is compile_expression("event.id == 'once'", names={"async", "event"})
    assert compiled("event.id == 'once'") is not compile_expression("event.id == 'once'", names={"event"})


def test_every_known_function_is_known_to_the_library() -> None:
    stamp, span = "timestamp('2024-01-01T00:00:00Z')", "duration('1s')"
    calls = {
        "duration": "duration('1s')",
        "has": "has({'a': 1}.a)",
        "timestamp": stamp,
        **{name: f"{name}('1')" for name in FUNCTIONS - {"duration", "has", "timestamp"}},
        **{name: f"{stamp}.{name}()" for name in METHODS if name.startswith("get")},
        **{name: f"'a'.{name}('a')" for name in METHODS if not name.startswith("get") and name != "size"},
    }
    assert set(calls) == FUNCTIONS | METHODS
    for call in calls.values():
        assert cel.evaluate(call) is not None
    for name in TYPES:
        assert cel.evaluate(name) == name
    assert compiled(f"{stamp}.getHours() + {span}.getSeconds()").evaluate({}) == 1


# --- missing fields


@pytest.mark.parametrize(
    "data", [None, {}, {"a": None}, {"a": {}}, {"a": {"b": None}}, {"a": "text"}, {"a": [1]}, 5, []]
)
def test_a_missing_field_reads_as_null_at_any_depth(data: Any) -> None:
    assert value("event.data.a.b.c == null", data) is True
    assert value("has(event.data.a.b.c)", data) is False
    assert value("!has(event.data.a.b.c) && event.data.a.b.c == null", data) is True


def test_a_root_that_is_not_given_reads_as_null() -> None:
    assert compiled("async.data.x == null && !has(async.data)").evaluate({"event": {}}) is True


def test_has_is_true_for_a_field_that_is_null() -> None:
    assert value("has(event.data.a) && event.data.a == null", {"a": None}) is True
    assert value("has(event.data.a.b)", {"a": {"b": None}}) is True


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("event.data['x-y']", 7),
        ("event.data['nope'] == null", True),
        ("event.data['it\\'s'] == 8", True),
        ('event.data["x\\u002dy"]', 7),
        ("event.data[r'x-y']", 7),
        ("event.data.items[0].sku", "s"),
        ("event.data.items[9].sku == null", True),
        ("event.data.items[1].sku == null", True),
        ("event.data.items['x'] == null", True),
        ("has(event.data.items[0].sku)", True),
        ("has(event.data.items[9].sku)", False),
        ("event.data.items[event.data.n].sku", "s"),
        ("event.data[event.data.key]", 7),
        ("event.data.int", 1),
    ],
)
def test_literal_indexes_are_paths_and_computed_ones_work(source: str, expected: Any) -> None:
    data = {"x-y": 7, "it's": 8, "items": [{"sku": "s"}, {}], "n": 0, "key": "x-y", "int": 1}
    assert value(source, data) == expected


@pytest.mark.parametrize(
    "source", ["event.data.items[event.data.n]", "event.data[event.data.key]", "event.data.items[-1]"]
)
def test_behind_a_computed_index_what_is_missing_cannot_be_evaluated(source: str) -> None:
    with pytest.raises(Unevaluable):
        value(source, {"items": [], "n": 3, "key": "nope"})


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("event.data.items.exists(i, has(i.x) && i.x > 1)", True),
        ("event.data.items.filter(i, has(i.x)).size()", 2),
        ("event.data.items.filter(i, i.x == null).size()", 2),
        ("event.data.items.all(i, i.y.z == null && !has(i.y.z))", True),
        ("event.data.items.map(i, i['x'])", [None, 2, None]),
        ("event.data.items.exists(event, event.x == 2)", True),
        ("event.data.items.exists(i, i.x == event.data.two)", True),
        ("event.data.items.exists(i, event.data.items.exists(j, j.x == i.x && has(j.x)))", True),
        ("event.data.items.exists_one(i, i == {'x': 2})", True),
        ("[1, 2].map(_0p0, _0p0 + event.data.two)", [3, 4]),
    ],
)
def test_fields_of_loop_variables_may_be_missing_too(source: str, expected: Any) -> None:
    assert value(source, {"items": [{}, {"x": 2}, {"x": None}], "two": 2}) == expected


# --- evaluation


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("event.data.none > 1", "the types do not fit (event.data.none is null)"),
        ("event.data.text > 1", "event.data.text is text"),
        ("event.data['x-y'] + 1", "event.data['x-y'] is null"),
        ("size(event.data.none) > 1", "size() does not take such a value"),
        ("event.data.none.startsWith('a')", "startsWith() does not take such a value"),
        ("1 / event.data.zero == 1", "division by zero"),
        ("event.data.big + 1 > 0", "overflow"),
        ("int(event.data.text) > 0", "int"),
        ("event.data.text.matches('[')", "regex"),
        ("(event.data.map).nope == 1", "no field 'nope'"),
        ("event.data.odd == 1", "a value has no JSON form"),
        ("event.data.none ? true : false", "the types do not fit"),
    ],
)
def test_a_condition_that_cannot_be_evaluated_is_false_and_says_why(source: str, reason: str) -> None:
    data = {"none": None, "text": "t", "zero": 0, "big": 2**63 - 1, "map": {}, "odd": object()}
    truth, problem = condition(compiled(source), {"event": {"data": data}})
    assert truth is False
    assert reason in str(problem)
    assert "_0p" not in str(problem)


@pytest.mark.parametrize(
    ("source", "outcome"),
    [
        ("event.data.n > 1", (True, None)),
        ("event.data.n > 2", (False, None)),
        ("event.data.n", (False, "gave int, not a bool")),
        ("event.data.none", (False, "gave null, not a bool")),
        ("'yes'", (False, "gave text, not a bool")),
    ],
)
def test_only_a_bool_is_a_condition(source: str, outcome: tuple[bool, str | None]) -> None:
    assert condition(compiled(source), {"event": {"data": {"n": 2}}}) == outcome


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("[event.data.a, event.data.b]", [1, None]),
        ("event.data.a == 1 ? 120 : 0", 120),
        ("{'k': event.data.a}", {"k": 1}),
        ("1.5", 1.5),
        ("string(event.data.a)", "1"),
        ("true", True),
    ],
)
def test_a_key_may_be_any_json(source: str, expected: Any) -> None:
    assert value_or_none(compiled(source), {"event": {"data": {"a": 1}}}) == (expected, None)


@pytest.mark.parametrize("source", ["duration('1s')", "[b'x']", "{1: 2}", "0.0 / 0.0", "1.0 / 0.0"])
def test_a_key_without_a_json_form_is_null(source: str) -> None:
    found, problem = value_or_none(compiled(source), {})
    assert found is None
    assert "no JSON form" in str(problem)


def test_a_key_that_cannot_be_evaluated_is_null() -> None:
    found, problem = value_or_none(compiled("event.data.a + 1"), {"event": {"data": {}}})
    assert found is None
    assert "event.data.a is null" in str(problem)


def test_unevaluable_is_one_of_our_errors() -> None:
    with pytest.raises(FlowsError, match=r"map [+] int"):
        value("event.data + 1", {})


def test_one_expression_serves_many_threads() -> None:
    expression = compiled("event.data.items.exists(i, i.x == event.data.n)")
    scopes = [{"event": {"data": {"n": number, "items": [{"x": number}, {}]}}} for number in range(400)]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(expression.evaluate, scopes))


def test_a_loop_that_would_hold_the_process_for_seconds_is_not_begun() -> None:
    items = {"event": {"data": {"items": list(range(MAX_LOOP + 1)), "inner": [{"x": list(range(MAX_LOOP + 1))}]}}}
    for source in ("event.data.items.map(i, i)", "event.data.inner.map(i, i.x.map(j, j))"):
        assert "take 2,000" in str(value_or_none(compiled(source), items)[1])
    assert condition(compiled(f"event.data.items.exists(i, i == {MAX_LOOP})"), items) == (True, None)


def test_the_cost_does_not_follow_the_size_of_the_event() -> None:
    expression = compiled("event.data.total > 100 && event.data.user.plan == 'pro' && has(event.data.user.id)")
    small = {"total": 101, "user": {"plan": "pro", "id": 1}}
    large = small | {"lines": [{"sku": "x" * 32, "n": number} for number in range(9_000)]}
    assert _fastest(expression, large) < 5 * _fastest(expression, small)


def _fastest(expression: Expression, data: Any) -> float:
    scope = {"event": {"data": data}}
    spans = []
    for _ in range(50):
        began = time.perf_counter()
        assert expression.evaluate(scope) is True
        spans.append(time.perf_counter() - began)
    return min(spans)


# --- the tokenizer agrees with the library


TEXTS = [
    "'a'", '"a"', "''", '""', "''''''", "'''a'b'''", '"""a"b"""', "'''a\\'''b'''", "r'\\'", "R'\\d'", 'r"\\"',
    "r'''a\\'''", "'\\''", "'\\\\'", "'\\a\\b\\f\\n\\r\\t\\v\\?\\`'", "'\\x41\\X41\\u0041\\U00000041\\101'",
    "'''a\nb'''", "''''a'''", "'('", "'//'", "'/*'", "r'''a\nb'''",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_one_token_wherever_it_is_one_for_the_library(text: str) -> None:
    assert [token.kind for token in tokenize(text)] == ["string"]
    assert isinstance(cel.evaluate(text), str)
    assert value(text + " + '!'") == cel.evaluate(text) + "!"


@pytest.mark.parametrize("text", ["'a\nb'", "'a", "'\\q'", "r'\\''", "'\\x4'", "'''a''", "'a\\\nb'"])
def test_a_text_that_the_library_refuses_is_refused_here_first(text: str) -> None:
    refusal(text)


@pytest.mark.parametrize("number", ["1", "1u", "0x1F", "1.5", ".5", "1e3", "1.5e-3", "1e+3", "007"])
def test_a_number_is_one_token(number: str) -> None:
    assert [token.kind for token in tokenize(number)] == ["number"]
    assert value(number) == cel.evaluate(number)


@given(
    st.dictionaries(st.text(min_size=1, max_size=5), st.integers(-5, 5), max_size=4), st.text(min_size=1, max_size=5)
)
def test_any_key_can_be_named_by_a_text(data: dict[str, int], key: str) -> None:
    quoted = "'" + "".join(f"\\U{ord(letter):08x}" for letter in key) + "'"
    try:
        assert value(f"event.data[{quoted}]", data) == data.get(key)
    except ExpressionError:
        assert any("\ud800" <= letter <= "\udfff" for letter in key)
