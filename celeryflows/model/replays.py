"""A replay: which runs of a flow are started again, and how fast. Pure."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celeryflows.durations import DAY, HOUR, MINUTE, SECOND
from celeryflows.errors import RerunRefused
from celeryflows.expressions import Expression, compile_expression, condition
from celeryflows.model.events import StoredEvent
from celeryflows.model.runs import ENDED, Status
from celeryflows.model.triggers import EVENT_NAMES

FASTEST = 1_000
_UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR}


@dataclass(frozen=True, slots=True)
class Selection:
    """Runs that ended so until `ended_by`, made from `after` on and before `before`; microseconds.

    `if_exp` is asked of their events. `cancelled` tells why a replay was stopped before it came to the last of them.
    """

    statuses: tuple[str, ...]
    ended_by: int
    after: int | None = None
    before: int | None = None
    if_exp: str | None = None
    cancelled: str | None = None

    def text(self) -> str:
        """As stored."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__})

    def condition(self) -> Expression | None:
        """The compiled condition. Raises ExpressionError."""
        if self.if_exp is None:
            return None
        return compile_expression(self.if_exp, names=EVENT_NAMES, what="if_exp of a replay")

    def takes(self, event: StoredEvent | None, compiled: Expression | None) -> bool:
        """True when the condition holds for the run's event; one that cannot be judged is false."""
        if compiled is None:
            return True
        return event is not None and condition(compiled, {"event": event.scope()})[0]


def read_selection(text: str) -> Selection:
    """The selection again."""
    value: Mapping[str, Any] = json.loads(text)
    return Selection(**{**value, "statuses": tuple(value["statuses"])})


def read_statuses(status: str | Sequence[str]) -> tuple[str, ...]:
    """One status or several of ended runs. Raises RerunRefused."""
    asked = [status] if isinstance(status, str) else list(status)
    known = sorted(ENDED)
    if not asked or not all(one in ENDED for one in asked):
        raise RerunRefused(f"status of a replay is one of {', '.join(known)}, or a list of them; got {status!r:.80}")
    return tuple(str(Status(one)) for one in dict.fromkeys(asked))


def read_pace(pace: float | str) -> int:
    """Microseconds from one start to the next, of a number a second or of "100/m", as Celery writes rates.

    Raises RerunRefused for what is none, past 1,000 a second or below one a day.
    """
    interval = math.nan
    if isinstance(pace, str):
        count, slash, unit = pace.strip().partition("/")
        if count.replace(".", "", 1).isdecimal() and float(count) > 0 and (not slash or unit in _UNITS):
            interval = (_UNITS[unit] if slash else SECOND) / float(count)
    elif isinstance(pace, int | float) and not isinstance(pace, bool) and pace > 0:
        interval = SECOND / pace
    if not FASTEST <= interval <= DAY:
        raise RerunRefused(f'pace={pace!r:.40}: runs a second, such as 10 or 0.5, or "100/m"; at most 1,000 a second')
    return int(interval)


@dataclass(frozen=True, slots=True)
class Quota:
    """How many may start now, and when the next one may if they are `started`."""

    most: int
    since: int
    interval: int

    def next_at(self, started: int) -> int:
        """When the next is due."""
        return self.since + started * self.interval


def quota(next_at: int, now: int, interval: int, most: int) -> Quota:
    """What is due. What an outage of the driver left undone is not made up for at once: a second's share at most."""
    since = max(next_at, now - max(SECOND - interval, 0))
    return Quota(max(0, min((now - since) // interval + 1, most)), since, interval)
