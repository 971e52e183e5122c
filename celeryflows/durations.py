"""Durations and moments: what a user writes, as whole microseconds.

Integers only, from the text to the store: no float ever rounds a time."""

import re
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from celeryflows.errors import BoundExceeded, InvalidDuration

Duration = str | timedelta

MILLISECOND = 1_000
SECOND = 1_000 * MILLISECOND
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WEEK = 7 * DAY
YEAR_366 = 366 * DAY

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LONGEST = 2**63 - 1

_SHORT = {"ms": MILLISECOND, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": WEEK}
_LONG = {
    **dict.fromkeys(("msec", "msecs", "millisecond", "milliseconds"), MILLISECOND),
    **dict.fromkeys(("sec", "secs", "second", "seconds"), SECOND),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), MINUTE),
    **dict.fromkeys(("hr", "hrs", "hour", "hours"), HOUR),
    **dict.fromkeys(("day", "days"), DAY),
    **dict.fromkeys(("wk", "wks", "week", "weeks"), WEEK),
}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]+)\s*,?\s*")
_BARE = re.compile(r"[+-]?[0-9_]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?\.?")
_MOST_TEXT = 100
_EXAMPLES = 'Write "30s", "3 days", "1h30m", or a timedelta.'


def parse_duration(value: Duration, what: str = "duration") -> int:
    """The microseconds of a duration: text such as "30s", "1h30m", "2 weeks", or a timedelta.

    `what` names it in errors. Raises InvalidDuration for a bare number, a negative duration and what cannot be read.
    """
    us = _read(value, what)
    if us > LONGEST:
        raise InvalidDuration(f"{what}: {value!r} is longer than can be stored. {_EXAMPLES}")
    return us


def parse_bounded(value: Duration, *, what: str, least: int, most: int) -> int:
    """The microseconds of a duration between `least` and `most` (microseconds, both allowed).

    Raises InvalidDuration for less than `least` or what cannot be read, BoundExceeded for more than `most`.
    """
    us = _read(value, what)
    if us < least:
        raise InvalidDuration(f"{what}: {value!r} is too short. Give at least {format_duration(least)}.")
    if us > most:
        remedy = f"You gave {_shown(us)}; give at most {format_duration(most)}."
        raise BoundExceeded(f"{what} in seconds", most // SECOND, -(-us // SECOND), remedy)
    return us


def parse_moment(value: datetime | str, what: str = "moment") -> int:
    """The epoch microseconds of an aware datetime, or of ISO text with a zone ("2026-03-01T09:00:00Z").

    Raises InvalidDuration for a moment without zone and for what cannot be read.
    """
    if isinstance(value, datetime):
        return _epoch_us(value, what)
    if not isinstance(value, str):
        raise InvalidDuration(
            f"{what}: {_kind(value)} is no moment. Give an aware datetime, "
            'or ISO text with a zone such as "2026-03-01T09:00:00Z".'
        )
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError:
        raise InvalidDuration(
            f'{what}: cannot read {value[:_MOST_TEXT]!r} as ISO text. Write "2026-03-01T09:00:00Z".'
        ) from None
    return _epoch_us(moment, what)


def format_duration(us: int) -> str:
    """A short form for people, cut and never rounded up: "3 days", "1h 30m", "1.5 s", "12 ms"."""
    if us < 0:
        return "-" + format_duration(-us)
    if us >= MINUTE:
        return _two_units(us)
    if us >= SECOND or us == 0:
        return f"{_decimal(us // (SECOND // 10), 1)} s"
    if us >= 10 * MILLISECOND:
        return f"{us // MILLISECOND} ms"
    return f"{_decimal(us, 3)} ms"


def to_datetime(us: int) -> datetime:
    """The aware UTC datetime of epoch microseconds."""
    return EPOCH + timedelta(microseconds=us)


def from_datetime(d: datetime) -> int:
    """The exact epoch microseconds of an aware datetime; InvalidDuration for a naive one."""
    return _epoch_us(d, "datetime")


def _read(value: object, what: str) -> int:
    if isinstance(value, timedelta):
        return _not_negative(_whole_us(value), value, what)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InvalidDuration(f"{what}: {_kind(value)} is no duration. {_EXAMPLES}")
    if isinstance(value, str) and len(value) > _MOST_TEXT:
        raise InvalidDuration(f"{what}: a text of {len(value):,} characters is no duration. {_EXAMPLES}")
    if isinstance(value, int | float) or _BARE.fullmatch(value.strip()):
        raise InvalidDuration(
            f"{what}: the bare number {_number(value)} has no unit: Celery would mean seconds, "
            f"Inngest milliseconds. {_EXAMPLES}"
        )
    return _read_text(value, what)


def _number(value: int | float | str) -> str:
    # Python refuses to write an integer of thousands of digits.
    return repr(value) if not isinstance(value, int) or abs(value) <= LONGEST else "that you gave"


def _read_text(value: str, what: str) -> int:
    text = value.strip()
    if text.startswith("-"):
        raise InvalidDuration(f"{what}: {value!r} is negative. {_EXAMPLES}")
    total, at, seen = Fraction(0), 0, set[int]()
    while part := _PART.match(text, at):
        unit = _unit(part[2])
        if unit is None or unit in seen:
            break
        seen.add(unit)
        total += Fraction(part[1]) * unit
        at = part.end()
    if at < len(text) or not seen or text.endswith(","):
        raise InvalidDuration(
            f"{what}: cannot read {value!r}. {_EXAMPLES} Units: ms, s, m, h, d, w, each at most once."
        )
    return round(total)


def _unit(word: str) -> int | None:
    # Short forms keep their case: "1M" may well be meant as a month.
    return _SHORT.get(word) or _LONG.get(word.lower())


def _whole_us(span: timedelta) -> int:
    return (span.days * 86_400 + span.seconds) * SECOND + span.microseconds


def _not_negative(us: int, value: timedelta, what: str) -> int:
    if us < 0:
        raise InvalidDuration(f"{what}: {value!r} is negative. {_EXAMPLES}")
    return us


def _epoch_us(moment: datetime, what: str) -> int:
    if moment.utcoffset() is None:
        raise InvalidDuration(
            f"{what}: {moment.isoformat()} has no zone. Add one: datetime(..., tzinfo=UTC), "
            'or text that ends with "Z" or "+02:00".'
        )
    return _whole_us(moment - EPOCH)


def _two_units(us: int) -> str:
    for unit, letter, word, below, below_letter in _SCALE:
        if us >= unit:
            count, rest = us // unit, us % unit // below
            if rest:
                return f"{count}{letter} {rest}{below_letter}"
            return f"{count} {word}" if count == 1 else f"{count} {word}s"
    raise AssertionError(us)


_SCALE = ((DAY, "d", "day", HOUR, "h"), (HOUR, "h", "hour", MINUTE, "m"), (MINUTE, "m", "minute", SECOND, "s"))


def _decimal(scaled: int, places: int) -> str:
    whole, rest = divmod(scaled, 10**places)
    return f"{whole}.{rest:0{places}d}".rstrip("0").rstrip(".")


def _shown(us: int) -> str:
    return format_duration(us) if us <= LONGEST else "far more"


def _kind(value: object) -> str:
    return type(value).__name__
