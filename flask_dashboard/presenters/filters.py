"""The filters of the templates, each known there as `flows_<name>`."""

from collections.abc import Callable
from typing import Any

from flask_dashboard.presenters.moments import length, since, when
from flask_dashboard.presenters.values import json_markup, json_text, one_line

FILTERS: dict[str, Callable[..., Any]] = {
    "when": when,
    "since": since,
    "length": length,
    "json": json_markup,
    "json_text": json_text,
    "line": one_line,
}
