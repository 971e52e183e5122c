"""Waiting for facts, never for time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(check: Callable[[], T], within: float = 10.0, every: float = 0.02) -> T:
    """Call `check` until its value is truthy, and return that value.

    `within` and `every` are seconds. Raises AssertionError with the last value when the time is over. What `check`
    raises is not caught: a check that may fail at first says so itself.
    """
    deadline = time.monotonic() + within
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() >= deadline:
            name = getattr(check, "__name__", repr(check))
            raise AssertionError(f"{name} was not true within {within:g} s; its last value: {value!r}")
        time.sleep(every)
