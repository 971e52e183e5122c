"""The only place that makes or reads stored JSON: values of steps, data of events, what comes over the wire.

Plain values take the C encoder's way; the rest, and all that is refused, the exact walk of json_forms."""

import json
from collections.abc import Iterable
from typing import Any, cast

from celeryflows.errors import InvalidEvent, NotStorable, PayloadLocked
from celeryflows.json_forms import (
    DEEPEST,
    EVENT,
    LEAST_INT,
    MOST_INT,
    STORED,
    TAG,
    encode,
    exact_tree,
    kind_of,
    revive,
)

# Before what is encrypted; no JSON begins so.
SEALED = "sealed:"
_SIMPLE = frozenset({str, float, bool, type(None)})
_TEXT = frozenset({str})
_ARRAYS = frozenset({list, tuple})
_SCALARS = frozenset({*_SIMPLE, int})
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
    return encode(exact_tree(value, STORED, what)) if text is None else text


def loads(text: str) -> Any:
    """The value that `dumps` or `event_json` was given, in its JSON form. Raises PayloadLocked for a sealed text."""
    if TAG not in text:
        return loads_plain(text)
    return json.loads(text, object_hook=revive)


def loads_plain(text: str) -> Any:
    """JSON's own value of a text that the store kept. Raises PayloadLocked for a sealed one."""
    try:
        return json.loads(text)
    except ValueError:
        check_open(text)
        raise


def is_sealed(text: str | None) -> bool:
    """True for a text that is encrypted."""
    return text is not None and text.startswith(SEALED)


def check_open(text: str | None) -> None:
    """Raise PayloadLocked, which names the key that is missing, for a text that is still encrypted."""
    if text is not None and text.startswith(SEALED):
        name = text.removeprefix(SEALED).partition(":")[0]
        raise PayloadLocked(
            f"A stored payload is encrypted under the key {name:.8}, which this app lacks, or it was damaged. Put that "
            "key into flows_encryption_keys of every process, behind the first one if that is newer; nothing is lost."
        )


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
            tree = exact_tree({} if data is None else data, EVENT, f"data of event {index}")
        except NotStorable as refused:
            raise InvalidEvent(str(refused), index) from None
        if not isinstance(tree, dict):
            raise InvalidEvent(
                f"data of event {index} is {kind_of(data)}. Give an object: a dict with text keys.", index
            )
        text = encode(tree)
    return text, loads(text)


def canonical(value: object) -> str:
    """One text for equal values: keys sorted, 1 and 1.0 alike. For hashes of what is matched; not to be read back."""
    return _encode_sorted(_levelled(value if _fast(value) is not None else exact_tree(value, STORED, "value")))


def parse_wire(body: bytes | str) -> Any:
    """Strict JSON from outside. Raises InvalidEvent for doubled keys, NaN, integers past 64 bits and the like."""
    try:
        text = body if isinstance(body, str) else body.decode()
        value = json.loads(text, object_pairs_hook=_undoubled)
        if _fast(value) is None:
            exact_tree(value, STORED, "JSON")
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
        text = encode(value)
        if not text.isascii():
            text.encode()
    except ValueError:  # NaN, Infinity, a lone surrogate: the walk names the path
        return None
    return None if TAG in text else text


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
