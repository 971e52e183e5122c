"""The small language: CEL behind two verbs, compile and evaluate.

A missing field reads as null. Only fields that a text names reach the library: its cost follows what it is given."""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any, Final

from celeryflows.errors import ExpressionError, FlowsError
from celeryflows.expression_library import cel
from celeryflows.expression_paths import (
    MACROS,
    MISSING,
    PYTHONISMS,
    Path,
    Rewrite,
    find,
    loop_functions,
    path_text,
    rewrite,
)
from celeryflows.expression_tokens import Problem, check_nesting, tokenize

MAX_LENGTH = 10_000
# The library's map() and filter() copy their result at each element, under the GIL: 2,000 take 0.3 s, 10,000 take 8 s.
MAX_LOOP = 2_000

_PLACE = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
_EXPECTING = re.compile(r" expecting .*$")
_QUOTED = re.compile(r"'(\w+)'")
_EXAMPLE = "Expressions are CEL, such as: event.data.total > 100 && event.data.plan == 'pro'."


class Unevaluable(FlowsError):
    """A good expression that has no value for these fields: null > 1, text against number, a missing key."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Expression:
    """A compiled expression; safe to share among threads. Made by `compile_expression`."""

    __slots__ = ("_program", "_rewrite", "_slow", "names", "paths", "source")

    def __init__(self, source: str, program: cel.Program, plan: Rewrite) -> None:
        self.source = source
        self._program = program
        self._rewrite = plan
        self._slow = plan.grows_lists or plan.nested_macro_at is not None
        named = {*plan.reads.values(), *plan.presences.values()}
        self.paths: tuple[Path, ...] = tuple(sorted(named, key=path_text))
        self.names = frozenset(str(path[0]) for path in named)

    def __repr__(self) -> str:
        return f"Expression({self.source!r})"

    def evaluate(self, scope: Mapping[str, Any]) -> Any:
        """Give the value for `scope`, root name -> JSON value.

        A field that is missing at any depth is null, and `has()` of it false; so are the fields of a loop's variable.
        Missing elements behind a computed index, `items[event.data.n]`, and fields of computed values are not null.

        Raises:
            Unevaluable: the operation has no meaning for these values.
        """
        values = self._values(scope)
        if self._slow:
            self._refuse_long_loops(values)
        try:
            return self._program.execute(values)
        except Exception as error:
            raise Unevaluable(self._reason(error, values)) from None
        except BaseException as panic:
            if type(panic).__name__ != "PanicException":
                raise
            raise Unevaluable("the expression library broke down on these values") from None

    def _values(self, scope: Mapping[str, Any]) -> dict[str, Any]:
        plan = self._rewrite
        values: dict[str, Any] = {}
        for name, path in plan.reads.items():
            found = find(scope, path)
            values[name] = None if found is MISSING else found
        for name, path in plan.presences.items():
            values[name] = find(scope, path) is not MISSING
        if plan.tails:
            values[plan.getter], values[plan.checker] = loop_functions(plan.tails)
        return values

    def _refuse_long_loops(self, values: Mapping[str, Any]) -> None:
        for name, path in self._rewrite.reads.items():
            longest = _longest(values[name])
            if longest > MAX_LOOP:
                held = f"{path_text(path)} holds {longest:,} elements"
                raise Unevaluable(f"{held}; map, filter and nested loops take {MAX_LOOP:,}")

    def _reason(self, error: Exception, values: Mapping[str, Any]) -> str:
        text = str(error)
        kinds = ", ".join(islice(self._kinds(values), 5))
        given = f" ({kinds})" if kinds else ""
        if isinstance(error, KeyError):
            return f"no field {text}{given}"
        if text.startswith("No such overload"):
            return f"the types do not fit{given}"
        if text.startswith("Undefined variable or function"):
            called = _QUOTED.search(text)
            return f"{called[1] if called else 'a function'}() does not take such a value{given}"
        if text.startswith("Conversion Error"):
            return f"a value has no JSON form{given}"
        return text.splitlines()[0].split(". ")[0] + given

    def _kinds(self, values: Mapping[str, Any]) -> Iterator[str]:
        return (f"{path_text(path)} is {_kind(values[name])}" for name, path in self._rewrite.reads.items())


def compile_expression(
    source: str, *, names: frozenset[str] | set[str], what: str = "expression", strict: bool = False
) -> Expression:
    """Check and compile a CEL text; the same text is compiled once.

    `names` are the roots that it may use, `what` names it in errors (`flow 'ship', if_exp`). `strict`, for texts that
    come over HTTP or from a page, refuses loops in loops, which take seconds.

    Raises:
        ExpressionError: syntax, unknown name or function, empty, over 10,000 characters, nested over 50.
    """
    try:
        return _compiled(source, frozenset(names), strict)
    except Problem as problem:
        raise _error(problem, source, what) from None


def condition(expression: Expression, scope: Mapping[str, Any]) -> tuple[bool, str | None]:
    """Give (truth, problem): what cannot be evaluated, or is no bool, is false, and `problem` says why."""
    try:
        value = expression.evaluate(scope)
    except Unevaluable as error:
        return False, error.reason
    return (value, None) if isinstance(value, bool) else (False, f"gave {_kind(value)}, not a bool")


def value_or_none(expression: Expression, scope: Mapping[str, Any]) -> tuple[Any, str | None]:
    """Give (value, problem) of a key or priority: what cannot be evaluated, or has no JSON form, is None."""
    try:
        value = expression.evaluate(scope)
    except Unevaluable as error:
        return None, error.reason
    return (value, None) if _is_json(value) else (None, f"gave {_kind(value)}, which has no JSON form")


@lru_cache(maxsize=1024)
def _compiled(source: str, names: frozenset[str], strict: bool) -> Expression:
    if not source.strip():
        raise Problem("is empty", "Leave the option out, or write a condition.")
    if len(source) > MAX_LENGTH:
        raise Problem(f"has {len(source):,} characters, at most {MAX_LENGTH:,}", "Compute the value in the event.")
    tokens = tokenize(source)
    check_nesting(tokens)
    _program(source)
    plan = rewrite(source, tokens, names, _literal)
    if strict and plan.nested_macro_at is not None:
        raise Problem("has a loop in a loop", "Use one map, filter, exists or all at a time.", plan.nested_macro_at)
    program = _program(plan.text)
    if misused := MACROS.intersection(program.functions()):
        raise Problem(f"wrong arguments for {', '.join(sorted(misused))}()", "Write list.exists(x, x > 1).")
    return Expression(source, program, plan)


def _program(source: str) -> cel.Program:
    try:
        return cel.compile(source)
    except ValueError as error:
        raise _syntax(source, str(error)) from None
    except BaseException as panic:
        if type(panic).__name__ != "PanicException":
            raise
        raise Problem("cannot be read", _EXAMPLE) from None


def _syntax(source: str, text: str) -> Problem:
    place = _PLACE.search(text)
    if place is None:
        return Problem("cannot be read", _EXAMPLE)
    line, column, message = int(place[1]), int(place[2]), _EXPECTING.sub("", place[3])
    at = sum(len(before) for before in source.split("\n")[: line - 1]) + line - 1 + column - 1
    word = next((word for word in _QUOTED.findall(message) if word in PYTHONISMS), None)
    hint = f"CEL writes {PYTHONISMS[word]} for {word}." if word else _EXAMPLE
    return Problem(message.replace("<EOF>", "end of text"), hint, at)


def _literal(text: str) -> str | int:
    found = cel.evaluate(text)
    assert isinstance(found, str | int)
    return found


def _error(problem: Problem, source: str, what: str) -> ExpressionError:
    shown = source if len(source) <= 200 else f"{source[:200]}..."
    column = None if problem.at is None else problem.at - source.rfind("\n", 0, problem.at)
    place = "" if column is None else f" at column {column}"
    return ExpressionError(f"{what}: {problem.message}{place} in {shown!r}. {problem.remedy}", column)


def _longest(value: Any) -> int:
    if not isinstance(value, list | dict):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    return max(len(value), *map(_longest, inner), 0)


_KINDS: Final = {type(None): "null", dict: "map", list: "list", str: "text"}


def _kind(value: Any) -> str:
    return _KINDS.get(type(value)) or type(value).__name__


def _is_json(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_json(item) for item in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
    if isinstance(value, float):
        return value - value == 0
    return value is None or isinstance(value, bool | int | str)
