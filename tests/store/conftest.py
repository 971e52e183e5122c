"""Prepared stores of each kind: on the real clock, and on one that is turned by hand."""

from collections.abc import Iterator

import pytest

from celeryflows.clock import TurnedClock
from celeryflows.store.database import Store


@pytest.fixture
def store(migrated_url: str) -> Iterator[Store]:
    """A store on the real clock."""
    made = Store(migrated_url)
    yield made
    made.dispose()


@pytest.fixture
def clock() -> TurnedClock:
    """The clock of `turned`."""
    return TurnedClock()


@pytest.fixture
def turned(migrated_url: str, clock: TurnedClock) -> Iterator[Store]:
    """A store whose time stands still until a test turns it."""
    made = Store(migrated_url, clock=clock)
    yield made
    made.dispose()
