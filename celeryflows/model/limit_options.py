"""The limits of a flow as they are written down, checked: each value, and what goes together. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from celeryflows.durations import LONGEST, SECOND, YEAR_366, Duration, format_duration, parse_bounded
from celeryflows.errors import BoundExceeded, DeclarationError, InvalidDuration
from celeryflows.expressions import compile_expression
from celeryflows.model.limits import (
    MODES,
    SCOPES,
    Batch,
    Concurrency,
    Debounce,
    Limits,
    Priority,
    RateLimit,
    Singleton,
    Throttle,
)
from celeryflows.model.triggers import EVENT_NAMES

LIMIT_BOUND = 1_000_000
BATCH_BOUND = 10_000
CONCURRENCY_BOUND = 2

OPTIONS = ("concurrency", "throttle", "rate_limit", "debounce", "batch", "priority", "singleton", "idempotency")
# Celery has options of these names too: they are ours only when they are given our types.
CELERYS = {"rate_limit": RateLimit, "priority": Priority}
_EXAMPLES: dict[str, tuple[type, str]] = {
    "throttle": (Throttle, "Throttle(5, '1s')"),
    "rate_limit": (RateLimit, "RateLimit(10, '1m')"),
    "debounce": (Debounce, "Debounce('30s')"),
    "batch": (Batch, "Batch(100, '5s')"),
    "priority": (Priority, "Priority(\"event.data.plan == 'pro' ? 120 : 0\")"),
    "singleton": (Singleton, "Singleton('skip')"),
}


def is_ours(name: str, value: object) -> bool:
    """True when the option is a limit of ours, not Celery's of the same name."""
    return name in OPTIONS and (name not in CELERYS or isinstance(value, CELERYS[name]))


def parse_limits(
    options: Mapping[str, Any], flow: str, names: frozenset[str] = EVENT_NAMES, *, what: str = "flow"
) -> Limits:
    """Read the options that are limits; their expressions are over `names`, and errors name the flow, or `what` it is.

    Raises DeclarationError, or ExpressionError for a bad expression, with the flow's name and the remedy.
    """
    given = {name: options[name] for name in OPTIONS if options.get(name) is not None}
    checker = _Checker(f"{what} {flow!r}", names)
    values = {name: checker.option(name, value) for name, value in given.items()}
    limits = Limits(**values)
    _check_together(limits, f"{what} {flow!r}")
    return limits


class _Checker:
    def __init__(self, what: str, names: frozenset[str]) -> None:
        self.what = what
        self.names = names

    def option(self, name: str, value: object) -> Any:
        what = f"{self.what}, {name}"
        if name == "concurrency":
            return self._concurrency(value, what)
        if name == "idempotency":
            self._expression(value, what)
            return value
        kind, example = _EXAMPLES[name]
        if not isinstance(value, kind):
            raise DeclarationError(f"{what}: {example}, got {type(value).__name__}")
        checked = getattr(self, f"_{name}")(value, what)
        self._expression(getattr(checked, "key", None), f"{what}: key")
        return checked

    def _concurrency(self, value: object, what: str) -> tuple[Concurrency, ...]:
        many: Sequence[object] = value if isinstance(value, list | tuple) else [value]
        if not 0 < len(many) <= CONCURRENCY_BOUND:
            raise DeclarationError(f"{what}: {len(many)} limits; one or {CONCURRENCY_BOUND}")
        found = tuple(self._one_concurrency(one, what) for one in many)
        if len({(one.key, one.scope) for one in found}) < len(found):
            raise DeclarationError(f"{what}: two limits of the same key and scope; the smaller one alone would hold")
        return found

    def _one_concurrency(self, value: object, what: str) -> Concurrency:
        one = Concurrency(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if not isinstance(one, Concurrency):
            raise DeclarationError(
                f"{what}: a number, Concurrency(5, key='event.data.user') or two of them, got {type(value).__name__}"
            )
        _number(one.limit, what, "limit")
        if one.scope not in SCOPES:
            raise DeclarationError(f"{what}: scope={one.scope!r}; 'flow' or 'app'")
        if one.scope == "app" and one.key is None:
            raise DeclarationError(
                f"{what}: scope='app' needs a key that names what the flows share, such as key=\"'mail server'\""
            )
        self._expression(one.key, f"{what}: key")
        return one

    def _throttle(self, value: Throttle, what: str) -> Throttle:
        _number(value.limit, what, "limit")
        _number(value.burst, what, "burst")
        checked = replace(value, period=_length(value.period, f"{what}: period"))
        if checked.tolerance > LONGEST // 4:
            raise DeclarationError(f"{what}: burst={value.burst} periods are longer than can be stored; give less")
        return checked

    def _rate_limit(self, value: RateLimit, what: str) -> RateLimit:
        _number(value.limit, what, "limit")
        return replace(value, period=_length(value.period, f"{what}: period"))

    def _debounce(self, value: Debounce, what: str) -> Debounce:
        checked = replace(value, period=_length(value.period, f"{what}: period"))
        if value.timeout is None:
            return checked
        checked = replace(checked, timeout=_length(value.timeout, f"{what}: timeout"))
        if (checked.timeout_us or 0) < checked.period_us:
            least = format_duration(checked.period_us)
            raise DeclarationError(f"{what}: timeout={value.timeout!r} is shorter than the period; at least {least}")
        return checked

    def _batch(self, value: Batch, what: str) -> Batch:
        _number(value.max_size, what, "max_size", BATCH_BOUND)
        self._expression(value.if_exp, f"{what}: if_exp")
        return replace(value, timeout=_length(value.timeout, f"{what}: timeout"))

    def _priority(self, value: Priority, what: str) -> Priority:
        self._expression(value.expression, what, optional=False)
        return value

    def _singleton(self, value: Singleton, what: str) -> Singleton:
        if value.mode not in MODES:
            raise DeclarationError(f"{what}: mode={value.mode!r}; 'skip' or 'cancel'")
        return value

    def _expression(self, value: object, what: str, *, optional: bool = True) -> None:
        if value is None and optional:
            return
        if not isinstance(value, str):
            raise DeclarationError(f"{what}: an expression such as 'event.data.user_id', got {type(value).__name__}")
        compile_expression(value, names=self.names, what=what)


def _number(value: object, what: str, name: str, most: int = LIMIT_BOUND) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise DeclarationError(f"{what}: {name}={value!r}; a whole number, 1 to {most:,}")


def _length(value: Duration, what: str) -> timedelta:
    try:
        return timedelta(microseconds=parse_bounded(value, what=what, least=SECOND, most=YEAR_366))
    except (InvalidDuration, BoundExceeded) as error:
        raise DeclarationError(str(error)) from None


def _check_together(limits: Limits, what: str) -> None:
    if limits.batch is not None and limits.singleton is not None:
        raise DeclarationError(
            f"{what}: batch and singleton do not go together: a batch that is skipped or cancelled would take all its "
            "events with it. Use concurrency=1: the next batch then waits."
        )
