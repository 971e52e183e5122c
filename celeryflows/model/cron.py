"""When a cron line fires, as epoch microseconds; asks no clock.

croniter counts on naive local time only; what a change of the clock does to a time is decided here, by zoneinfo."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from croniter import CroniterBadDateError, CroniterError, croniter

from celeryflows.errors import DeclarationError

MAX_YEARS_BETWEEN = 5
# Reaches over every change of a clock: the largest went back 24 h (Kwajalein), later ones 3 h at most.
_REACH = timedelta(hours=25)
_MINUTE = timedelta(minutes=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_FIELDS = (("minute", 60), ("hour", 24), ("day of month", 31), ("month", 12), ("day of week", 7))
_RANDOM = re.compile(r"(?<![a-z])[hr](?![a-z])")
_EVERY_MINUTE = re.compile(r"(?:\*|0-59)(?:/\d+)?")
_EVERY_HOUR = re.compile(r"(?:\*|0-23)(?:/\d+)?")
_WORD = re.compile(r"([A-Za-z]{3})[A-Za-z]*")


@dataclass(frozen=True, slots=True)
class CronSchedule:
    """Five fields (minute, hour, day of month, month, day of week; both days given: either) in a time zone.

    A local time that the clock skips fires at the first moment after the gap; one that it repeats fires at its first.
    A line with an interval (`*`, `*/n`) in minutes or hours goes on through a repeated hour, and what it would fire in
    a gap falls away where the line fires as much later anyway. `@daily` and the like are written out in `expression`.

    Raises:
        DeclarationError: not five fields, a bad field, an unknown zone, never fires within five years.
    """

    expression: str
    tz: str = "UTC"

    def __post_init__(self) -> None:
        object.__setattr__(self, "expression", _checked(self.expression))
        _zone(self.tz)

    def next_after(self, us: int) -> int:
        """The first fire after `us`."""
        moment = _moment(us)
        later = self._offset(moment + _REACH)
        start = self._local(moment) - max(timedelta(0), self._offset(moment) - later)
        found: list[datetime] = []
        for local in _walk(self.expression, start, forward=True):
            fires = self._fires(local)
            found += [fire for fire in fires if fire > moment]
            # A time's first moment never goes back as local time goes on; its second one may be next all the same.
            if fires and fires[0] > moment:
                return _us(min(found))
        raise AssertionError("a declared line fires again")  # croniter gives up after 50 years

    def previous_at_or_before(self, us: int) -> int | None:
        """The last fire at or before `us`; None when there is none within croniter's years."""
        moment = _moment(us)
        earlier = self._offset(moment - _REACH)
        start = self._local(moment) + max(timedelta(0), earlier - self._offset(moment)) + _MINUTE
        found: list[datetime] = []
        for local in _walk(self.expression, start, forward=False):
            fires = self._fires(local)
            found += [fire for fire in fires if fire <= moment]
            if fires and fires[-1] <= moment:
                return _us(max(found))
        return None

    def occurrences(self, after: int, until: int, limit: int) -> list[int]:
        """The fires in (after, until], oldest first, at most `limit`."""
        fires: list[int] = []
        while len(fires) < limit and (after := self.next_after(after)) <= until:
            fires.append(after)
        return fires

    def _local(self, moment: datetime) -> datetime:
        return moment.astimezone(_zone(self.tz)).replace(second=0, microsecond=0, tzinfo=None, fold=0)

    def _offset(self, moment: datetime) -> timedelta:
        return moment.astimezone(_zone(self.tz)).utcoffset() or timedelta(0)

    def _fires(self, local: datetime) -> tuple[datetime, ...]:
        """The moments at which a local time fires: one, two in a repeated hour, none where a gap swallows it."""
        zone = _zone(self.tz)
        first = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
        second = local.replace(tzinfo=zone, fold=1).astimezone(UTC)
        if first == second:
            return (first,)
        if first < second:
            return (first, second) if self._is_interval else (first,)
        if self._is_interval and croniter.match(self.expression, local + (first - second)):
            return ()
        return (_gap_end(second, first, self._offset),)

    @property
    def _is_interval(self) -> bool:
        minutes, hours, *_ = self.expression.split()
        return any(map(_EVERY_MINUTE.fullmatch, minutes.split(","))) or any(
            map(_EVERY_HOUR.fullmatch, hours.split(","))
        )


def jittered(flow: str, due: int, jitter: int) -> int:
    """A delay in [0, jitter) for a flow's fire at `due`, the same wherever it is computed."""
    if jitter <= 0:
        return 0
    digest = hashlib.blake2b(f"{flow}\0{due}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % jitter


def from_crontab(crontab: object) -> str:
    """The five fields of a `celery.schedules.crontab`.

    Raises:
        DeclarationError: another object, or both days restricted: Celery then asks for both, cron for either.
    """
    try:
        fields = [_field(getattr(crontab, f"_orig_{name}")) for name in _CRONTAB]
    except (AttributeError, TypeError):
        raise DeclarationError(f"{crontab!r} is no cron line. Give five fields as text, or a crontab.") from None
    if fields[2] != "*" and fields[4] != "*":
        raise DeclarationError(
            f"{crontab!r} restricts day_of_month and day_of_week: Celery fires when both fit, cron when either does. "
            "Restrict one, and ask for the other in the flow."
        )
    return _checked(" ".join(fields))


_CRONTAB = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")


def _field(value: str | int | Iterable[int]) -> str:
    if isinstance(value, str):
        return _WORD.sub(r"\1", value.replace(" ", "")).lower()
    return str(value) if isinstance(value, int) else ",".join(map(str, sorted(value)))


@lru_cache(maxsize=1024)
def _checked(expression: str) -> str:
    text = " ".join(expression.lower().split())
    text = _ALIASES.get(text, text)
    fields = text.split(" ")
    if text.startswith("@") or len(fields) != len(_FIELDS):
        raise DeclarationError(
            f"Cron line {expression!r} has not five fields (minute hour day month weekday). "
            "For less than a minute, or at a start, write a loop with step.sleep."
        )
    for (name, size), field in zip(_FIELDS, fields, strict=True):
        _check_field(expression, name, size, field)
    try:
        croniter(text, datetime(2025, 1, 1), max_years_between_matches=MAX_YEARS_BETWEEN).get_next(datetime)
    except CroniterBadDateError:
        raise DeclarationError(f"Cron line {expression!r} never fires within {MAX_YEARS_BETWEEN} years.") from None
    except (CroniterError, ValueError, KeyError, IndexError) as error:
        raise DeclarationError(f"Cron line {expression!r} cannot be read: {error}.") from None
    return text


def _check_field(expression: str, name: str, size: int, field: str) -> None:
    if _RANDOM.search(field):
        raise DeclarationError(f"Cron line {expression!r}: no random {name}. Fix it, or use jitter=.")
    steps = [int(step) for step in re.findall(r"/(\d+)", field)]
    if any(step > size for step in steps):
        raise DeclarationError(f"Cron line {expression!r}: the step of {name} {field!r} is over {size}.")


@lru_cache(maxsize=256)
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        known = available_timezones()
    remedy = "" if known else " This host has no time zones: install the package tzdata."
    nearest = get_close_matches(name, known, 1)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else remedy or " Give an IANA name, such as 'Europe/Paris'."
    raise DeclarationError(f"Unknown time zone {name!r}.{hint}")


def _walk(expression: str, start: datetime, *, forward: bool) -> Iterator[datetime]:
    """Naive local times of the line, strictly after (or before) `start`, while croniter finds any."""
    times = croniter(expression, start, ret_type=datetime)
    step = times.get_next if forward else times.get_prev
    try:
        while True:
            yield step()
    except (CroniterBadDateError, OverflowError):
        return


def _gap_end(before: datetime, after: datetime, offset: Callable[[datetime], timedelta]) -> datetime:
    """The moment in (before, after] at which the clock jumps, to the second."""
    old, low, high = offset(before), _us(before) // 1_000_000, _us(after) // 1_000_000
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if offset(_moment(middle * 1_000_000)) == old else (low, middle)
    return _moment(high * 1_000_000)


def _moment(us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=us)


def _us(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND
