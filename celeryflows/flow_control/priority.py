"""Priority: a head start among what waits at a limit."""

from collections.abc import Mapping
from typing import Any

from celeryflows.durations import SECOND
from celeryflows.expressions import compile_expression, value_or_none
from celeryflows.model.limits import Priority
from celeryflows.model.triggers import KEY_NAMES

MOST = 600 * SECOND


def head_start(priority: Priority | None, flow: str, scope: Mapping[str, Any]) -> int:
    """Microseconds by which the run of an event precedes others, -600 to 600 seconds; 0 for what is no number."""
    if priority is None:
        return 0
    compiled = compile_expression(priority.expression, names=KEY_NAMES, what=f"priority of flow {flow!r}")
    found, _ = value_or_none(compiled, scope)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return 0
    return int(max(-MOST, min(MOST, found * SECOND)))
