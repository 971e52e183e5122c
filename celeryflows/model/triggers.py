"""What starts a flow: an event's name or pattern with a condition, or a cron line."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, get_args

from celeryflows.durations import DAY, Duration, parse_bounded
from celeryflows.errors import DeclarationError
from celeryflows.expressions import compile_expression
from celeryflows.model.cron import CronSchedule, from_crontab
from celeryflows.model.events import NAME_BOUND

TRIGGER_BOUND = 10
EVENT_NAMES = frozenset({"event"})
# What the keys of limits see: of a task also its arguments.
KEY_NAMES = frozenset({"event", "kwargs"})
Missed = Literal["latest", "all", "skip"]


@dataclass(frozen=True, slots=True)
class OnEvent:
    """Start at each event of this name.

    `name` may end in `/*` or `.*` (`order/*`, `app/user.*`). `if_exp` is a CEL condition over `event`, judged for
    events of the name only. Raises DeclarationError for a bad pattern, ExpressionError for a bad condition.
    """

    name: str
    if_exp: str | None = None

    def __post_init__(self) -> None:
        _check_pattern(self.name)
        if self.if_exp is not None:
            compile_expression(self.if_exp, names=EVENT_NAMES, what=f"if_exp of trigger {self.name!r}")

    def matches(self, name: str) -> bool:
        """True when an event of this name is one of mine; its condition is not asked here."""
        return name.startswith(self.name[:-1]) and len(name) >= len(self.name) if self.is_pattern else name == self.name

    @property
    def is_pattern(self) -> bool:
        """True for `order/*`."""
        return self.name.endswith("*")


@dataclass(frozen=True, slots=True)
class OnCron:
    """Start at each time of a cron line, once across all workers.

    `cron` has five fields, or is a `celery.schedules.crontab`; `tz` is an IANA name; `jitter` delays the start by a
    fixed offset below it; `missed` says what follows an outage: "latest" fires once, "all" each, "skip" none.
    """

    cron: Any
    tz: str = "UTC"
    jitter: Duration | None = None
    missed: Missed = "latest"

    def __post_init__(self) -> None:
        if not isinstance(self.cron, str):
            object.__setattr__(self, "cron", from_crontab(self.cron))
        if self.missed not in get_args(Missed):
            raise DeclarationError(f"OnCron missed={self.missed!r}: one of 'latest', 'all', 'skip'")
        CronSchedule(self.cron, self.tz)
        jitter = self.jitter_us()
        if isinstance(self.jitter, timedelta):
            # The store keeps text.
            object.__setattr__(self, "jitter", f"{jitter / 1000} ms")

    def schedule(self) -> CronSchedule:
        """The due times."""
        return CronSchedule(self.cron, self.tz)

    def jitter_us(self) -> int:
        """The jitter in microseconds, 0 for none."""
        return 0 if self.jitter is None else parse_bounded(self.jitter, what="OnCron jitter", least=0, most=DAY)


Trigger = OnEvent | OnCron


def parse_triggers(value: object, flow: str) -> tuple[Trigger, ...]:
    """Read the `trigger=` option: None, text, a trigger, or a list of them (at most 10)."""
    if value is None:
        return ()
    many: Sequence[object] = value if isinstance(value, list | tuple) else [value]
    if len(many) > TRIGGER_BOUND:
        raise DeclarationError(f"flow {flow!r} has {len(many)} triggers; at most {TRIGGER_BOUND}")
    return tuple(_trigger(one, flow) for one in many)


def _trigger(value: object, flow: str) -> Trigger:
    if isinstance(value, OnEvent | OnCron):
        return value
    if isinstance(value, str):
        if _looks_like_cron(value):
            raise DeclarationError(f"flow {flow!r}: trigger {value!r} is a cron line; did you mean OnCron({value!r})?")
        return OnEvent(value)
    if hasattr(value, "_orig_minute"):
        return OnCron(value)
    raise DeclarationError(f"flow {flow!r}: a trigger is text, OnEvent or OnCron, got {type(value).__name__}")


def _looks_like_cron(text: str) -> bool:
    return text.startswith("@") or len(text.split()) in (5, 6)


def _check_pattern(name: object) -> None:
    if not isinstance(name, str) or not name or name != name.strip() or not name.isprintable():
        raise DeclarationError(f"trigger {name!r} is no event name")
    if len(name) > NAME_BOUND:
        raise DeclarationError(f"trigger {name[:40]!r}... is {len(name)} characters long; at most {NAME_BOUND}")
    if "*" in name and (name.index("*") != len(name) - 1 or name[-2:-1] not in ("/", ".")):
        raise DeclarationError(f"trigger {name!r}: '*' may stand only at the end, after '/' or '.'")
