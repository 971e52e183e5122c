"""Rates (GCRA): a start is due one interval after the one before, and may come early by the tolerance.

The store asks and moves the meter in one statement; this is the same rule for what is told about it."""

from celeryflows.durations import format_duration, to_datetime
from celeryflows.flow_control.keys import Key
from celeryflows.model.limits import RateLimit


def passes(tat: int | None, now: int, interval: int, tolerance: int) -> int | None:
    """The moment from which the start after this one is due; None when this one comes too early."""
    if tat is not None and tat - tolerance > now:
        return None
    return max(now if tat is None else tat, now) + interval


def passes_at(tat: int, tolerance: int) -> int:
    """When the next start may come."""
    return tat - tolerance


def skip_reason(limit: RateLimit, key: Key, tat: int) -> str:
    """Why a run was skipped, and when one would pass."""
    period = format_duration(limit.json()["period"])
    at = to_datetime(passes_at(tat, limit.tolerance)).isoformat(timespec="milliseconds")
    return f"rate limit: more than {limit.limit} in {period}{key.shown()}; the next one passes at {at}"
