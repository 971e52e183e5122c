"""A store in memory for each world, as a copy of one that was prepared once."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from typing import Any

from sqlalchemy import PoolProxiedConnection

from celeryflows.clock import TurnedClock
from celeryflows.scheduler.figures import BUCKET, with_total
from celeryflows.store.connection import Connection
from celeryflows.store.database import Store
from tests.engine.world import NEW_YEAR, memory_store

# All worlds say the same statements.
_COMPILED: dict[str, str] = {}


class WorldStore(Store):
    """A store in memory whose one connection is never given back: a pool would cost more than what is asked of it."""

    def __init__(self, clock: TurnedClock, shared: "WorldStore | None" = None) -> None:
        super().__init__("sqlite://", clock=clock)
        self.compiled = _COMPILED
        self._engine = shared.engine if shared is not None else None
        # One thread runs at a time, and none is stopped within a transaction.
        self.guard = nullcontext()
        self.kept: PoolProxiedConnection = shared.kept if shared is not None else self.engine.raw_connection()

    @property
    def is_in_transaction(self) -> bool:
        """True while somebody's transaction is open."""
        return bool(self.kept.driver_connection.in_transaction)  # type: ignore[union-attr]

    @contextmanager
    def unlinked(self) -> Iterator[Connection]:
        """A connection that nothing happens to, for who looks on."""
        yield KeptConnection(self)


class KeptConnection(Connection):
    """Stands on the connection that its store keeps."""

    store: WorldStore

    def _open(self) -> Any:
        self._raw = self.store.kept
        self._cursor = self._raw.cursor()
        return self._cursor

    def close(self) -> None:
        """The store keeps it."""
        self._raw = self._cursor = None


def new_store(clock: TurnedClock) -> WorldStore:
    """An empty store on the clock."""
    store = WorldStore(clock)
    store.kept.driver_connection.deserialize(_prepared())  # type: ignore[union-attr]
    return store


@lru_cache(maxsize=1)
def _prepared() -> bytes:
    """An empty store, checked once."""
    store = memory_store(TurnedClock(NEW_YEAR))
    # Its figures are known up to now: else the leader of each world would count the day before, for most of its time.
    store.transact(lambda tx: tx.figures.put(NEW_YEAR - BUCKET, with_total({}), None))
    raw = store.engine.raw_connection()
    try:
        content: bytes = raw.driver_connection.serialize()  # type: ignore[union-attr]
        return content
    finally:
        raw.close()
        store.dispose()
