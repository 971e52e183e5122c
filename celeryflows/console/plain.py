"""Views and values as plain JSON: moments as ISO text in UTC, durations in seconds."""

import dataclasses
from base64 import b64encode
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any


def json_form(value: Any) -> Any:
    """Plain JSON for any view and any decoded value."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: json_form(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): json_form(item) for key, item in value.items()}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, str) or value is None or isinstance(value, bool | int | float):
        return str(value) if isinstance(value, str) else value
    return [json_form(item) for item in value] if isinstance(value, Iterable) else str(value)
