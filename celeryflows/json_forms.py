"""The forms of values in JSON, and the exact walk: what each type becomes, what is refused and at which path.

Beyond JSON travels as {"$flows": [kind, text]}; a user's own key "$flows" gets one more "$". No pickle, no eval."""

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AnySet
from contextlib import suppress
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from inspect import isawaitable
from math import isfinite
from typing import Any, NamedTuple, NoReturn
from uuid import UUID

from celeryflows.errors import NotStorable, SchemaMismatch

DEEPEST = 100
LEAST_INT, MOST_INT = -(2**63), 2**63 - 1
TAG = "$flows"

_TAG_LIKE = re.compile(r"\$+flows").fullmatch
_NAME = re.compile(r"[^\W\d]\w*").fullmatch
encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")).encode


def exact_tree(value: object, form: "Form", what: str) -> object:
    """The value as dicts, lists and scalars alone, or NotStorable with the path; `what` names it in errors."""
    return _tree(value, form, _Place(what, None, 0, None))


def revive(found: dict[str, Any]) -> Any:
    """What a stored object stands for: the value of a tag, else the object with the user's own keys."""
    if TAG not in found:
        return {name[1:] if _TAG_LIKE(name) else name: value for name, value in found.items()}
    kind, text = found[TAG]
    if kind not in _REVIVED:
        raise SchemaMismatch(f"A stored value of kind {kind!r}: a newer celeryflows wrote it. Update this process.")
    return _REVIVED[kind](text)


class _Place(NamedTuple):
    """Where the walk is: the way back to the top, made into a path only when something is refused."""

    step: str | int
    holder: object
    depth: int
    above: "_Place | None"


def _tree(value: object, form: "Form", place: _Place) -> object:
    """The exact walk: the value as dicts, lists and scalars alone, or NotStorable."""
    if isinstance(value, Enum):
        return _tree(value.value, form, place)
    if value is None or isinstance(value, bool | int | float | str):
        return _scalar(value, place)
    for base in type(value).__mro__:
        if leaf := form.leaves.get(base):
            return leaf(value, place)
    if hasattr(type(value), "model_dump"):
        return _tree(_dumped(value, form, place), form, place)
    if (members := _members(value)) is not None:
        return _object(members, value, form, place)
    if isinstance(value, list | tuple | set | frozenset):
        return _array(value, form, place)
    return _refuse(place, f"{kind_of(value)} has no JSON form", _remedy(value))


def _scalar(value: bool | int | float | str | None, place: _Place) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, place)
    if isinstance(value, float):
        return (
            float.__float__(value) if isfinite(value) else _refuse(place, "NaN and Infinity are not JSON", "Use None.")
        )
    if LEAST_INT <= value <= MOST_INT:
        return int.__int__(value)
    return _refuse(place, "an integer outside 64 bits", "Give it as text or Decimal.")


def _text(value: str, place: _Place) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        _refuse(place, "text with a lone surrogate, which is no UTF-8", 'Decode it with errors="replace".')
    return str.__str__(value)


def _object(members: Iterable[tuple[object, object]], holder: object, form: "Form", place: _Place) -> object:
    _not_too_deep(holder, place)
    found = {}
    for key, member in members:
        if not isinstance(key, str):
            _refuse(place, f"a key that is {kind_of(key)}, not text", "Use str(key).")
        inside = _Place(str.__str__(key), holder, place.depth + 1, place)
        name = _text(key, inside)
        found["$" + name if _TAG_LIKE(name) else name] = _tree(member, form, inside)
    return found


def _array(values: Collection[object], form: "Form", place: _Place) -> object:
    _not_too_deep(values, place)
    if isinstance(values, set | frozenset):
        values = _ordered(values, form, place)
    return [_tree(value, form, _Place(at, values, place.depth + 1, place)) for at, value in enumerate(values)]


def _ordered(values: AnySet[Any], form: "Form", place: _Place) -> list[Any]:
    # Sets within sets compare as subsets, which is no order; what has none is ordered by its JSON.
    if not any(isinstance(value, AnySet) for value in values):
        with suppress(TypeError, ArithmeticError):
            return sorted(values)
    return sorted(values, key=lambda value: encode(_tree(value, form, place)))


def _members(value: object) -> Iterable[tuple[object, object]] | None:
    if isinstance(value, dict | Mapping):
        return value.items()
    if is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in fields(value)]
    return None


def _dumped(value: Any, form: "Form", place: _Place) -> object:
    try:
        return value.model_dump(mode=form.mode)
    except Exception as failed:
        return _refuse(place, f"{kind_of(value)} cannot be dumped: {failed}", "Give plain data.")


def _not_too_deep(value: object, place: _Place) -> None:
    if place.depth < DEEPEST:
        return
    seen = {id(value)}
    above: _Place | None = place
    while above and above.above:
        if id(above.holder) in seen:
            _refuse(place, "a circular reference", "Refer by an id instead.")
        seen.add(id(above.holder))
        above = above.above
    _refuse(place, f"nested deeper than {DEEPEST}", "Flatten it.")


def _refuse(place: _Place, problem: str, remedy: str) -> NoReturn:
    steps: list[str] = []
    while place.above:
        steps.append(_step(place.step))
        place = place.above
    path = "$" + "".join(reversed(steps))
    raise NotStorable(f"{place.step} at {path}: {problem}. {remedy}", path)


def _step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if _NAME(step) else f"[{json.dumps(step)}]"


def kind_of(value: object) -> str:
    """The type's name as errors show it."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _remedy(value: object) -> str:
    if isinstance(value, bytes | bytearray | timedelta):
        return "Send text or a number: base64, a link, total_seconds()."
    if isawaitable(value):
        return "Await it first."
    if callable(value):
        return "Give what it returns."
    if hasattr(value, "tolist"):
        return "Use its tolist()."
    if isinstance(value, Iterable):
        return "Make a list or dict of it."
    return "Give plain data: dict, list, text, number, dataclass or pydantic model."


def _aware(value: datetime, place: _Place) -> str:
    if value.utcoffset() is None:
        _refuse(place, "a datetime without zone", "Add one: datetime(..., tzinfo=UTC).")
    return datetime.isoformat(value)


def _decimal(value: Decimal, place: _Place) -> str:
    return str(value) if value.is_finite() else _refuse(place, "NaN and Infinity are not JSON", "Use None.")


def _tagged(kind: str, text: Callable[[Any], str]) -> "_Leaf":
    return lambda value, place: {TAG: [kind, text(value)]}


_Leaf = Callable[[Any, _Place], object]


class Form(NamedTuple):
    """What becomes of types beyond JSON: tags in stored values, plain text in events."""

    mode: str
    leaves: Mapping[type, _Leaf]


def _base64(value: bytes | bytearray) -> str:
    return b64encode(value).decode()


def _microseconds(value: timedelta) -> str:
    return str(value // timedelta(microseconds=1))


STORED = Form(
    "python",
    {
        datetime: _tagged("datetime", datetime.isoformat),
        date: _tagged("date", date.isoformat),
        time: _tagged("time", time.isoformat),
        timedelta: _tagged("timedelta", _microseconds),
        UUID: _tagged("uuid", str),
        Decimal: lambda value, place: {TAG: ["decimal", _decimal(value, place)]},
        bytes: _tagged("bytes", _base64),
        bytearray: _tagged("bytes", _base64),
    },
)
EVENT = Form(
    "json",
    {
        datetime: _aware,
        date: lambda value, place: date.isoformat(value),
        time: lambda value, place: time.isoformat(value),
        UUID: lambda value, place: str(value),
        Decimal: _decimal,
    },
)
_REVIVED: dict[str, Callable[[str], object]] = {
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timedelta": lambda text: timedelta(microseconds=int(text)),
    "uuid": UUID,
    "decimal": Decimal,
    "bytes": b64decode,
}
