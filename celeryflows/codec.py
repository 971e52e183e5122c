"""The only place that makes or reads stored JSON: values of steps, data of events, what comes over the wire.

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
from typing import Any, NamedTuple, NoReturn, cast
from uuid import UUID

from celeryflows.errors import InvalidEvent, NotStorable, SchemaMismatch

DEEPEST = 100
LEAST_INT, MOST_INT = -(2**63), 2**63 - 1

_TAG = "$flows"
_TAG_LIKE = re.compile(r"\$+flows").fullmatch
_NAME = re.compile(r"[^\W\d]\w*").fullmatch
_SIMPLE = frozenset({str, float, bool, type(None)})
_TEXT = frozenset({str})
_ARRAYS = frozenset({list, tuple})
_SCALARS = frozenset({*_SIMPLE, int})
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")).encode
_encode_sorted = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"), sort_keys=True
).encode


def dumps(value: object, *, what: str = "value") -> str:
    """Compact JSON text from which `loads` makes the value again; `what` names the value in errors.

    Come back as themselves: JSON's own, datetime (its zone as an offset), date, time, timedelta, UUID, Decimal, bytes.
    Dataclasses and pydantic models come back as dicts, tuples and sets as lists, members of an Enum as their values.
    Raises NotStorable, with the path, for all else.
    """
    text = _fast(value)
    return _encode(_tree(value, _STORED, _root(what))) if text is None else text


def loads(text: str) -> Any:
    """The value that `dumps` or `event_json` was given, in its JSON form."""
    return json.loads(text, object_hook=_untagged) if _TAG in text else json.loads(text)


def roundtrip(value: object, *, what: str = "value") -> tuple[str, Any]:
    """The stored text and what `loads` will make of it."""
    text = dumps(value, what=what)
    return text, value if type(value) in _SCALARS else loads(text)


def event_json(data: object, *, index: int = 0) -> tuple[str, dict[str, Any]]:
    """An event's data (an object, a pydantic model or None) as stored text, and decoded to plain JSON.

    datetime (aware), date, time, UUID and Decimal become text. Raises InvalidEvent, which names the path and `index`.
    """
    text = _fast(data) if type(data) is dict else None
    if text is None:
        try:
            tree = _tree({} if data is None else data, _EVENT, _root(f"data of event {index}"))
        except NotStorable as refused:
            raise InvalidEvent(str(refused), index) from None
        if not isinstance(tree, dict):
            raise InvalidEvent(f"data of event {index} is {_kind(data)}. Give an object: a dict with text keys.", index)
        text = _encode(tree)
    return text, loads(text)


def canonical(value: object) -> str:
    """One text for equal values: keys sorted, 1 and 1.0 alike. For hashes of what is matched; not to be read back."""
    return _encode_sorted(_levelled(value if _fast(value) is not None else _tree(value, _STORED, _root("value"))))


def parse_wire(body: bytes | str) -> Any:
    """Strict JSON from outside. Raises InvalidEvent for doubled keys, NaN, integers past 64 bits and the like."""
    try:
        text = body if isinstance(body, str) else body.decode()
        value = json.loads(text, object_pairs_hook=_undoubled)
        if _fast(value) is None:
            _tree(value, _STORED, _root("JSON"))
    except UnicodeDecodeError as refused:
        raise InvalidEvent(f"The body is not UTF-8: {refused.reason} at byte {refused.start}.") from None
    except RecursionError:
        raise InvalidEvent(f"JSON is nested deeper than {DEEPEST}. Flatten it.") from None
    except NotStorable as refused:
        raise InvalidEvent(str(refused)) from None
    except InvalidEvent:
        raise
    except ValueError as refused:
        raise InvalidEvent(f"The body is not valid JSON: {refused}.") from None
    return value


def _fast(value: object) -> str | None:
    """The text of a plain value by the C encoder, or None where the exact walk has to look."""
    if not _are_plain((value,), 0):
        return None
    try:
        text = _encode(value)
        if not text.isascii():
            text.encode()
    except ValueError:  # NaN, Infinity, a lone surrogate: the walk names the path
        return None
    return None if _TAG in text else text


def _are_plain(values: Iterable[object], depth: int) -> bool:
    """Only exact JSON types, text keys, 64-bit integers, not too deep. The rest is the encoder's to find."""
    for value in values:
        kind = type(value)
        if kind in _SIMPLE:
            continue
        if kind is int:
            if not LEAST_INT <= cast(int, value) <= MOST_INT:
                return False
        elif kind is dict and depth < DEEPEST:
            table = cast(dict[object, object], value)
            if not (_TEXT.issuperset(map(type, table)) and _are_plain(table.values(), depth + 1)):
                return False
        elif kind not in _ARRAYS or depth == DEEPEST or not _are_plain(cast(list[object], value), depth + 1):
            return False
    return True


class _Place(NamedTuple):
    """Where the walk is: the way back to the top, made into a path only when something is refused."""

    step: str | int
    holder: object
    depth: int
    above: "_Place | None"


def _root(what: str) -> _Place:
    return _Place(what, None, 0, None)


def _tree(value: object, form: "_Form", place: _Place) -> object:
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
    return _refuse(place, f"{_kind(value)} has no JSON form", _remedy(value))


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


def _object(members: Iterable[tuple[object, object]], holder: object, form: "_Form", place: _Place) -> object:
    _not_too_deep(holder, place)
    found = {}
    for key, member in members:
        if not isinstance(key, str):
            _refuse(place, f"a key that is {_kind(key)}, not text", "Use str(key).")
        inside = _Place(str.__str__(key), holder, place.depth + 1, place)
        name = _text(key, inside)
        found["$" + name if _TAG_LIKE(name) else name] = _tree(member, form, inside)
    return found


def _array(values: Collection[object], form: "_Form", place: _Place) -> object:
    _not_too_deep(values, place)
    if isinstance(values, set | frozenset):
        values = _ordered(values, form, place)
    return [_tree(value, form, _Place(at, values, place.depth + 1, place)) for at, value in enumerate(values)]


def _ordered(values: AnySet[Any], form: "_Form", place: _Place) -> list[Any]:
    # Sets within sets compare as subsets, which is no order; what has none is ordered by its JSON.
    if not any(isinstance(value, AnySet) for value in values):
        with suppress(TypeError, ArithmeticError):
            return sorted(values)
    return sorted(values, key=lambda value: _encode(_tree(value, form, place)))


def _members(value: object) -> Iterable[tuple[object, object]] | None:
    if isinstance(value, dict | Mapping):
        return value.items()
    if is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in fields(value)]
    return None


def _dumped(value: Any, form: "_Form", place: _Place) -> object:
    try:
        return value.model_dump(mode=form.mode)
    except Exception as failed:
        return _refuse(place, f"{_kind(value)} cannot be dumped: {failed}", "Give plain data.")


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


def _kind(value: object) -> str:
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
    return lambda value, place: {_TAG: [kind, text(value)]}


def _untagged(found: dict[str, Any]) -> Any:
    if _TAG not in found:
        return {name[1:] if _TAG_LIKE(name) else name: value for name, value in found.items()}
    kind, text = found[_TAG]
    if kind not in _REVIVED:
        raise SchemaMismatch(f"A stored value of kind {kind!r}: a newer celeryflows wrote it. Update this process.")
    return _REVIVED[kind](text)


def _undoubled(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        doubled = next(name for name in found if names.count(name) > 1)
        raise InvalidEvent(f"The key {json.dumps(doubled)} stands twice in one object. Name each once.")
    return found


def _levelled(value: Any) -> Any:
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, dict):
        return {name: _levelled(member) for name, member in value.items()}
    return [_levelled(member) for member in value] if isinstance(value, list | tuple) else value


_Leaf = Callable[[Any, _Place], object]


class _Form(NamedTuple):
    """What becomes of types beyond JSON: tags in stored values, plain text in events."""

    mode: str
    leaves: Mapping[type, _Leaf]


def _base64(value: bytes | bytearray) -> str:
    return b64encode(value).decode()


def _microseconds(value: timedelta) -> str:
    return str(value // timedelta(microseconds=1))


_STORED = _Form(
    "python",
    {
        datetime: _tagged("datetime", datetime.isoformat),
        date: _tagged("date", date.isoformat),
        time: _tagged("time", time.isoformat),
        timedelta: _tagged("timedelta", _microseconds),
        UUID: _tagged("uuid", str),
        Decimal: lambda value, place: {_TAG: ["decimal", _decimal(value, place)]},
        bytes: _tagged("bytes", _base64),
        bytearray: _tagged("bytes", _base64),
    },
)
_EVENT = _Form(
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
