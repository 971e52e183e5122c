"""The filters of the templates, each known there as `flows_<name>`."""

from collections.abc import Callable
from typing import Any

from flask_dashboard.presenters.moments import length, since, when

FILTERS: dict[str, Callable[..., Any]] = {"when": when, "since": since, "length": length}
