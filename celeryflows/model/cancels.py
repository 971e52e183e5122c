"""What ends a run from outside: events that cancel it, and the bounds of its time. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from celeryflows.durations import LONGEST, MILLISECOND, Duration, parse_bounded
from celeryflows.errors import BoundExceeded, DeclarationError, InvalidDuration, InvalidEvent
from celeryflows.expressions import compile_expression
from celeryflows.model.events import RESERVED, check_name
from celeryflows.model.waits import CONDITION_ONLY, WAIT_NAMES, is_path, match_value

CANCEL_BOUND = 5
MOST = LONGEST // 4


@dataclass(frozen=True, slots=True)
class CancelOn:
    """Cancel a flow's runs at an event of this name.

    `match="data.order_id"` asks that both events have the same value there; `if_exp` is a CEL condition over `event`
    (the run's own) and `async` (the one that came), in place of `match`. Without either every such event cancels.
    `timeout`: from so long after the run's creation on it does not any more. Checked where the flow is declared.
    """

    event: str
    match: str | None = field(default=None, kw_only=True)
    if_exp: str | None = field(default=None, kw_only=True)
    timeout: Duration | None = field(default=None, kw_only=True)

    @property
    def path(self) -> str:
        """The path by which arriving events find it."""
        return CONDITION_ONLY if self.match is None else self.match

    def json(self) -> dict[str, Any]:
        """The stored form; the timeout in microseconds."""
        return {"event": self.event, "match": self.match, "if_exp": self.if_exp, "timeout": _us(self.timeout)}


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Bounds of a run's time; one that passes a bound is cancelled.

    `start` counts from the run's creation, or from the moment it is scheduled for, to its first turn; `finish` from
    the beginning of its first turn to its end.
    """

    start: Duration | None = None
    finish: Duration | None = None

    @property
    def start_us(self) -> int | None:
        """`start` in microseconds."""
        return _us(self.start)

    @property
    def finish_us(self) -> int | None:
        """`finish` in microseconds."""
        return _us(self.finish)

    def json(self) -> dict[str, Any]:
        """The stored form, in microseconds."""
        return {"start": self.start_us, "finish": self.finish_us}


@dataclass(frozen=True, slots=True)
class CancelWait:
    """What one run waits for to be cancelled. `problem`: why no event ever can."""

    key: str
    name: str
    path: str
    value: str
    if_exp: str | None
    timeout: int | None
    problem: str | None = None


def cancel_waits(cancels: Sequence[CancelOn], data: Mapping[str, Any]) -> list[CancelWait]:
    """The waits of a run that was started with this data."""
    return [_wait(number, one, match_value(data, one.path)) for number, one in enumerate(cancels)]


def _wait(number: int, one: CancelOn, value: str | None) -> CancelWait:
    # No step has such a key: ids that end so are refused, and a repeated id is counted without a leading zero.
    key, problem = f"cancel_on:0{number}", None
    if value is None:
        problem = f"match={one.match!r} is null or missing in the run's event; it would match every event without it"
    return CancelWait(key, one.event, one.path, value or "", one.if_exp, _us(one.timeout), problem)


def parse_cancel_on(value: object, flow: str) -> tuple[CancelOn, ...]:
    """Read the `cancel_on=` option: None, a name, a CancelOn, or a list of at most 5. Raises DeclarationError, or
    ExpressionError for a bad condition."""
    if value is None:
        return ()
    many: Sequence[object] = value if isinstance(value, list | tuple) else [value]
    if len(many) > CANCEL_BOUND:
        raise DeclarationError(f"flow {flow!r} has {len(many)} cancel_on; at most {CANCEL_BOUND}")
    return tuple(_checked(CancelOn(one) if isinstance(one, str) else one, flow) for one in many)


def _checked(one: object, flow: str) -> CancelOn:
    what = f"flow {flow!r}, cancel_on"
    if not isinstance(one, CancelOn):
        raise DeclarationError(f"{what}: an event's name or CancelOn(...), got {type(one).__name__}")
    what = f"{what} {one.event!r:.80}"
    try:
        if not (isinstance(one.event, str) and one.event.startswith(RESERVED)):
            check_name(one.event)
    except InvalidEvent as error:
        raise DeclarationError(f"{what}: {error}") from None
    if one.match is not None and one.if_exp is not None:
        raise DeclarationError(f"{what}: match or if_exp, not both; put the match into the condition")
    if one.match is not None and not is_path(one.match):
        raise DeclarationError(f"{what}: match={one.match!r:.80} is no path of a field, such as match='data.order_id'")
    if one.if_exp is not None:
        compile_expression(one.if_exp, names=WAIT_NAMES, what=f"{what}: if_exp")
    return replace(one, timeout=_length(one.timeout, f"{what}: timeout"))


def parse_timeouts(value: object, flow: str) -> Timeouts | None:
    """Read the `timeouts=` option. Raises DeclarationError."""
    if value is None:
        return None
    what = f"flow {flow!r}, timeouts"
    if not isinstance(value, Timeouts):
        raise DeclarationError(f"{what}: Timeouts(start='1h', finish='2h'), got {type(value).__name__}")
    if value.start is None and value.finish is None:
        raise DeclarationError(f"{what}: give start=, finish= or both")
    return Timeouts(_length(value.start, f"{what}: start"), _length(value.finish, f"{what}: finish"))


def read_cancel_on(values: Sequence[Mapping[str, Any]]) -> tuple[CancelOn, ...]:
    """The stored form again."""
    return tuple(
        CancelOn(one["event"], match=one["match"], if_exp=one["if_exp"], timeout=_span(one["timeout"]))
        for one in values
    )


def read_timeouts(value: Mapping[str, Any] | None) -> Timeouts | None:
    """The stored form again."""
    return None if value is None else Timeouts(_span(value["start"]), _span(value["finish"]))


def _length(value: Duration | None, what: str) -> timedelta | None:
    try:
        return None if value is None else _span(parse_bounded(value, what=what, least=MILLISECOND, most=MOST))
    except (InvalidDuration, BoundExceeded) as error:
        raise DeclarationError(str(error)) from None


def _span(us: int | None) -> timedelta | None:
    return None if us is None else timedelta(microseconds=us)


def _us(length: Duration | None) -> int | None:
    return None if length is None else parse_bounded(length, what="timeout", least=0, most=LONGEST)
