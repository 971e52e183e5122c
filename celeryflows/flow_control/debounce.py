"""Debounce: the newest event by `ts` wins, and each one that counts puts the start off."""

from dataclasses import dataclass
from enum import Enum

from celeryflows.model.limits import Debounce


@dataclass(frozen=True, slots=True)
class Window:
    """What waits: the newest event's `ts`, and the moment past which nothing puts the start off."""

    ts: int
    deadline: int | None


class Verdict(Enum):
    """What an event is to what waits."""

    OPENS = "opens"
    MOVES = "moves"
    IS_OLD = "is old"


def judge(window: Window | None, ts: int) -> Verdict:
    """An event with this `ts` comes; `window` is None where nothing waits. Of equal ones the later counts."""
    if window is None:
        return Verdict.OPENS
    return Verdict.MOVES if ts >= window.ts else Verdict.IS_OLD


def deadline_of(limit: Debounce, now: int) -> int | None:
    """The latest start of what begins to wait now."""
    return None if limit.timeout_us is None else now + limit.timeout_us


def fire_at(limit: Debounce, deadline: int | None, now: int) -> int:
    """When it starts if nothing more comes."""
    at = now + limit.period_us
    return at if deadline is None else min(at, deadline)
