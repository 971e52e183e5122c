"""Throttle by GCRA: `tat` is when the next start is due at the even rate; a burst may come that much earlier."""

from collections.abc import Mapping
from typing import Any, Protocol

from celeryflows.codec import canonical
from celeryflows.expressions import compile_expression, value_or_none
from celeryflows.ids import derived_id
from celeryflows.model.limits import Throttle
from celeryflows.model.triggers import KEY_NAMES

# The leader looks each 50 ms: what it is late by may be made up, up to a fifth of the gap, or this much.
LATE = 60_000


class Rate(Protocol):
    """An even rate: microseconds between starts, and by how many a burst may come early."""

    @property
    def interval(self) -> int: ...
    @property
    def tolerance(self) -> int: ...


def meter_of(flow: str, throttle: Throttle, scope: Mapping[str, Any]) -> tuple[str, str | None]:
    """The name of the line for a run whose expressions see `scope`, and the key's value as canonical JSON."""
    value = None
    if throttle.key is not None:
        compiled = compile_expression(throttle.key, names=KEY_NAMES, what=f"throttle of flow {flow!r}")
        found, _ = value_or_none(compiled, scope)
        value = canonical(found)
    return f"0{derived_id('throttle', flow, throttle.key or '')}{derived_id(value or '')}", value


def due_at(rate: Rate, tat: int) -> int:
    """When the next one may start."""
    return tat - rate.tolerance


def after_start(rate: Rate, tat: int, now: int, *, late: bool = False) -> int:
    """The meter after a start. `late`: of one that waited and was let in by a leader that looks now and then."""
    made_up = max(rate.interval // 5, LATE) if late else 0
    return max(tat, now - made_up) + rate.interval


def after_change(rate: Rate, tat: int, now: int) -> int:
    """The meter of a line that was filled at another rate: nobody waits longer than at this one."""
    return min(tat, now + rate.interval + rate.tolerance)
