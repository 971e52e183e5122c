"""A store in memory for each world, as a copy of one that was prepared once."""

from functools import lru_cache

from celeryflows.clock import TurnedClock
from celeryflows.store.database import Store
from tests.engine.world import NEW_YEAR, memory_store


def new_store(clock: TurnedClock) -> Store:
    """An empty store on the clock."""
    store = Store("sqlite://", clock=clock)
    raw = store.engine.raw_connection()
    try:
        raw.driver_connection.deserialize(_prepared())  # type: ignore[union-attr]
    finally:
        raw.close()
    return store


@lru_cache(maxsize=1)
def _prepared() -> bytes:
    """An empty store, checked once."""
    store = memory_store(TurnedClock(NEW_YEAR))
    raw = store.engine.raw_connection()
    try:
        content: bytes = raw.driver_connection.serialize()  # type: ignore[union-attr]
        return content
    finally:
        raw.close()
        store.dispose()
