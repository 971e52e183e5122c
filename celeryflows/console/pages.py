"""A page of a list, and the forms that every view shares: moments and decoded values."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

from celeryflows.codec import loads
from celeryflows.durations import to_datetime


class Row(Protocol):
    """What a page is made of: rows with an id."""

    @property
    def id(self) -> str: ...


R = TypeVar("R", bound=Row)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some of a list; `next` is the cursor of the page that follows, None for the last one."""

    items: tuple[T, ...]
    next: str | None


def page_of(rows: Sequence[R], limit: int, view: Callable[[R], T]) -> Page[T]:
    """A page of rows of which one more than `limit` was asked for."""
    kept = rows[:limit]
    return Page(tuple(view(row) for row in kept), kept[-1].id if len(rows) > limit else None)


def moment(us: int | None) -> datetime | None:
    """Microseconds as an aware datetime in UTC."""
    return None if us is None else to_datetime(us)


def decoded(text: str | None) -> Any:
    """A stored value as Python sees it."""
    return None if text is None else loads(text)
