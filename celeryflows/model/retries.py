"""When a failed attempt is tried again. Pure: the dice come in as a number."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from celeryflows.durations import DAY, HOUR, SECOND, Duration, from_datetime, parse_bounded, parse_duration
from celeryflows.errors import DeclarationError, RetryAfterError

RETRIES_BOUND = 20
RETRY_AFTER_LEAST, RETRY_AFTER_MOST = SECOND, 24 * HOUR


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before attempt n: `first * factor ** (n - 1)`, at most `max`, plus up to `jitter` of it.

    `first` and `max` are durations (defaults "1s", "1h"), `factor` at least 1 (default 2), `jitter` 0 to 1 (0.1).
    """

    first: Duration = "1s"
    factor: float = 2
    max: Duration = "1h"
    jitter: float = 0.1

    def __post_init__(self) -> None:
        parse_bounded(self.first, what="Backoff first", least=0, most=366 * DAY)
        parse_bounded(self.max, what="Backoff max", least=0, most=366 * DAY)
        if not self.factor >= 1:
            raise DeclarationError(f"Backoff factor={self.factor!r}: at least 1")
        if not 0 <= self.jitter <= 1:
            raise DeclarationError(f"Backoff jitter={self.jitter!r}: 0 to 1")

    def delay(self, attempt: int, dice: float) -> int:
        """Microseconds before the next attempt; `attempt` counts the failed ones from 1, `dice` is 0 to 1."""
        most = parse_duration(self.max)
        try:
            plain = min(parse_duration(self.first) * self.factor ** (attempt - 1), most)
        except OverflowError:
            plain = most
        return int(plain * (1 + self.jitter * dice))


BackoffRule = Backoff | Callable[[int], timedelta]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How many retries follow the first attempt, and how far apart."""

    retries: int = 3
    backoff: BackoffRule = Backoff()

    def delay(self, attempt: int, dice: float) -> int:
        """Microseconds before the next attempt, by the backoff or the user's own function."""
        if isinstance(self.backoff, Backoff):
            return self.backoff.delay(attempt, dice)
        return max(0, parse_duration(self.backoff(attempt), "backoff"))

    def delay_after(self, error: BaseException, attempt: int, *, now: int, dice: float) -> int:
        """Microseconds until the next attempt: as the error asks, else by the backoff. Raises what the user's do."""
        return retry_after(error, now) if isinstance(error, RetryAfterError) else self.delay(attempt, dice)


def check_retries(value: object, what: str) -> int:
    """Return the number of retries, 0 to 20, or raise DeclarationError."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= RETRIES_BOUND:
        raise DeclarationError(f"{what}: retries={value!r}; a whole number, 0 to {RETRIES_BOUND}")
    return value


def check_backoff(value: object, what: str) -> BackoffRule:
    """Return the backoff, or raise DeclarationError."""
    if isinstance(value, Backoff) or callable(value):
        return value
    raise DeclarationError(f"{what}: backoff={value!r}; a Backoff(...) or a function of the attempt")


def retry_after(error: RetryAfterError, now: int) -> int:
    """The wait that the error asks for, in microseconds, clipped to 1 s .. 24 h."""
    after = error.after
    if isinstance(after, datetime):
        wait = from_datetime(after) - now
    elif isinstance(after, int | float):
        # Clipped first: infinity has no microseconds.
        wait = int(min(max(1, after), RETRY_AFTER_MOST // SECOND) * SECOND)
    else:
        wait = parse_duration(after, "RetryAfterError")
    return min(max(wait, RETRY_AFTER_LEAST), RETRY_AFTER_MOST)
