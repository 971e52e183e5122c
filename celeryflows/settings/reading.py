"""Settings that are tables: each entry checked, its words known, the nearest one named. No message shows a value."""

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from celeryflows.durations import parse_duration
from celeryflows.errors import ConfigurationError, InvalidDuration


def table_of(value: Any, where: str, known: Collection[str] | None = None) -> Mapping[str, Any]:
    """A mapping with text keys, of which only the `known` ones may stand there. Raises ConfigurationError."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ConfigurationError(f"{where} must be a mapping with text keys, got {type(value).__name__}")
    for key in value if known is not None else ():
        if key not in (known or ()):
            near = difflib.get_close_matches(key, list(known or ()), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else f" Known: {', '.join(sorted(known or ()))}."
            raise ConfigurationError(f"{where} has an unknown entry {key!r}.{hint}")
    return value


def text_of(value: Any, where: str, *, remedy: str = "") -> str:
    """A text that is not empty. Raises ConfigurationError."""
    if not isinstance(value, str) or not value.strip():
        got = "an empty text" if isinstance(value, str) else type(value).__name__
        raise ConfigurationError(f"{where} must be a text, got {got}.{' ' if remedy else ''}{remedy}")
    return value


def texts_of(value: Any, where: str, *, remedy: str = "") -> tuple[str, ...]:
    """One text or several. Raises ConfigurationError."""
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list | tuple | set | frozenset):
        raise ConfigurationError(f"{where} must be a text or a list of texts, got {type(value).__name__}")
    return tuple(text_of(one, where, remedy=remedy) for one in given)


def one_of(value: Any, where: str, known: Collection[str]) -> str:
    """One of some words. Raises ConfigurationError."""
    if value not in known:
        raise ConfigurationError(f"{where} must be one of {', '.join(known)}")
    return str(value)


def duration_of(value: Any, where: str) -> int:
    """A duration in microseconds. Raises ConfigurationError."""
    try:
        return parse_duration(value, where)
    except InvalidDuration as error:
        raise ConfigurationError(str(error)) from None
