"""The limits of a flow: frozen values, as they are declared and as the store keeps them. Pure.

They are checked where the flow is declared (limit_options)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, get_args

from celeryflows.durations import LONGEST, Duration, parse_bounded

Scope = Literal["flow", "app"]
Mode = Literal["skip", "cancel"]
SCOPES: tuple[str, ...] = get_args(Scope)
MODES: tuple[str, ...] = get_args(Mode)


def _us(length: Duration) -> int:
    return parse_bounded(length, what="period", least=0, most=LONGEST)


def _span(us: int) -> timedelta:
    return timedelta(microseconds=us)


@dataclass(frozen=True, slots=True)
class Concurrency:
    """At most `limit` turns at once (1 to 1,000,000), of the whole flow or for each value of `key`.

    `key` is a CEL expression over `event`; a null key counts as one more value. `scope="app"` shares the turns among
    all flows of the app that declare the same key: it needs one, such as `key="'mail server'"`.
    """

    limit: int
    key: str | None = field(default=None, kw_only=True)
    scope: Scope = field(default="flow", kw_only=True)

    def json(self) -> dict[str, Any]:
        """The stored form."""
        return {"limit": self.limit, "key": self.key, "scope": self.scope}


@dataclass(frozen=True, slots=True)
class Throttle:
    """Start at most `limit` runs in each `period` (1 s at least), evenly spaced, `burst` of them at once; what is more
    starts later. `key` as for Concurrency."""

    limit: int
    period: Duration
    key: str | None = field(default=None, kw_only=True)
    burst: int = field(default=1, kw_only=True)

    @property
    def interval(self) -> int:
        """Microseconds from one start to the next."""
        return -(-_us(self.period) // self.limit)

    @property
    def tolerance(self) -> int:
        """Microseconds by which starts may come early."""
        return self.interval * (self.burst - 1)

    def json(self) -> dict[str, Any]:
        """The stored form, the period in microseconds."""
        return {"limit": self.limit, "period": _us(self.period), "key": self.key, "burst": self.burst}


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Start `limit` runs at once, then one each `period / limit`; what is more is skipped, and recorded as skipped.

    A window of one period may see up to 2 * limit - 1 starts. `key` as for Concurrency.
    """

    limit: int
    period: Duration
    key: str | None = field(default=None, kw_only=True)

    @property
    def interval(self) -> int:
        """Microseconds from one start to the next, once `limit` came at once."""
        return -(-_us(self.period) // self.limit)

    @property
    def tolerance(self) -> int:
        """Microseconds by which starts may come early."""
        return self.interval * (self.limit - 1)

    def json(self) -> dict[str, Any]:
        """The stored form, the period in microseconds."""
        return {"limit": self.limit, "period": _us(self.period), "key": self.key}


@dataclass(frozen=True, slots=True)
class Debounce:
    """Start once no event came for `period` (1 s at least), with the newest by `ts`; `timeout` caps the postponement.

    `key` as for Concurrency.
    """

    period: Duration
    key: str | None = field(default=None, kw_only=True)
    timeout: Duration | None = field(default=None, kw_only=True)

    @property
    def period_us(self) -> int:
        """`period` in microseconds."""
        return _us(self.period)

    @property
    def timeout_us(self) -> int | None:
        """`timeout` in microseconds."""
        return None if self.timeout is None else _us(self.timeout)

    def json(self) -> dict[str, Any]:
        """The stored form, in microseconds."""
        return {"period": self.period_us, "key": self.key, "timeout": self.timeout_us}


@dataclass(frozen=True, slots=True)
class Batch:
    """One run for up to `max_size` events (1 to 10,000): it starts when they are there, at 10 MiB, or `timeout` after
    the first. The handler gets `ctx.events`.

    An event for which the condition `if_exp` is false starts a run alone, at once. `key` as for Concurrency.
    """

    max_size: int
    timeout: Duration
    key: str | None = field(default=None, kw_only=True)
    if_exp: str | None = field(default=None, kw_only=True)

    @property
    def timeout_us(self) -> int:
        """`timeout` in microseconds."""
        return _us(self.timeout)

    def json(self) -> dict[str, Any]:
        """The stored form, the timeout in microseconds."""
        return {"max_size": self.max_size, "timeout": self.timeout_us, "key": self.key, "if_exp": self.if_exp}


@dataclass(frozen=True, slots=True)
class Priority:
    """The head start of a run over others that wait at a limit, in seconds: `expression` is CEL over `event`, clamped
    to -600 .. 600; what cannot be evaluated is 0."""

    expression: str

    def json(self) -> dict[str, Any]:
        """The stored form."""
        return {"expression": self.expression}


@dataclass(frozen=True, slots=True)
class Singleton:
    """One run at a time, of the flow or for each value of `key`: "skip" skips what comes while one is there, "cancel"
    ends that one and starts the new. A null key means no limit."""

    mode: Mode
    key: str | None = field(default=None, kw_only=True)

    def json(self) -> dict[str, Any]:
        """The stored form."""
        return {"mode": self.mode, "key": self.key}


@dataclass(frozen=True, slots=True)
class Limits:
    """All limits of one flow."""

    concurrency: tuple[Concurrency, ...] = ()
    throttle: Throttle | None = None
    rate_limit: RateLimit | None = None
    debounce: Debounce | None = None
    batch: Batch | None = None
    priority: Priority | None = None
    singleton: Singleton | None = None
    idempotency: str | None = None

    def __bool__(self) -> bool:
        return self != NONE

    @property
    def of_gates_alone(self) -> bool:
        """True when nothing is asked but concurrency and priority."""
        return not (
            self.throttle or self.rate_limit or self.debounce or self.batch or self.singleton or self.idempotency
        )

    def json(self) -> dict[str, Any]:
        """The stored form; only what is given."""
        values: dict[str, Any] = {}
        for name in self.__slots__:
            value = getattr(self, name)
            if name == "concurrency":
                value = [one.json() for one in self.concurrency]
            elif value is not None and name != "idempotency":
                value = value.json()
            if value:
                values[name] = value
        return values


NONE = Limits()
_KINDS: dict[str, Any] = {
    "throttle": Throttle,
    "rate_limit": RateLimit,
    "debounce": Debounce,
    "batch": Batch,
    "priority": Priority,
    "singleton": Singleton,
}


def read_limits(value: Mapping[str, Any] | None) -> Limits:
    """The stored form again."""
    if not value:
        return NONE
    found: dict[str, Any] = {name: _read(kind, value[name]) for name, kind in _KINDS.items() if name in value}
    concurrency = tuple(_read(Concurrency, one) for one in value.get("concurrency", ()))
    return Limits(concurrency=concurrency, idempotency=value.get("idempotency"), **found)


def _read(kind: Any, stored: Mapping[str, Any]) -> Any:
    """A value of a newer version may have fields that this one does not know."""
    known = {name: one for name, one in stored.items() if name in kind.__slots__}
    for name in ("period", "timeout"):
        if known.get(name) is not None:
            known[name] = _span(known[name])
    return kind(**known)
