"""What users stored, for reading: JSON with its parts in colour. Every piece of it is escaped text."""

import base64
import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from typing import Any

from markupsafe import Markup, escape

# A page shows so much of a value; more can be fetched as a file.
MOST = 40_000
_TOKEN = re.compile(r'("(?:[^"\\]|\\.)*")(\s*:)?|\b(true|false|null)\b|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)')


def plain(value: Any) -> Any:
    """JSON for any decoded value."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return [plain(item) for item in value] if isinstance(value, Iterable) else str(value)


def json_text(value: Any, indent: int | None = 2) -> str:
    """A value as JSON text."""
    return json.dumps(plain(value), ensure_ascii=False, indent=indent)


def json_markup(value: Any, most: int = MOST) -> Markup:
    """A value as indented JSON in colour, cut where it is longer than `most` characters."""
    text = json_text(value)
    cut = text[:most]
    parts, at = [], 0
    for found in _TOKEN.finditer(cut):
        parts.append(escape(cut[at : found.start()]))
        parts.append(_coloured(found))
        at = found.end()
    parts.append(escape(cut[at:]))
    if len(text) > most:
        parts.append(Markup('\n<span class="faint">… {} characters more</span>').format(len(text) - most))
    return Markup("").join(parts)


def _coloured(found: re.Match[str]) -> Markup:
    text, colon, word, number = found.groups()
    if text is not None:
        kind = "key" if colon else "text"
        return Markup('<span class="j-{}">{}</span>{}').format(kind, text, colon or "")
    return Markup('<span class="j-{}">{}</span>').format("word" if word else "number", word or number)


def one_line(value: Any, most: int = 160) -> str:
    """A value as JSON in one line, cut."""
    text = json_text(value, None)
    return text if len(text) <= most else f"{text[: most - 1]}…"
