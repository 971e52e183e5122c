"""A store behind a link at which the simulation stands: before and after every commit, and before every read."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Engine

from celeryflows.clock import Clock
from celeryflows.errors import StoreUnavailable
from celeryflows.store import connection as connections
from celeryflows.store.connection import Connection
from celeryflows.store.database import Store
from celeryflows.store.executor import Row

# All processes of a simulation say the same statements.
_COMPILED: dict[str, str] = {}
WRITES = ("INSERT", "UPDATE", "DELETE", "WITH")


class Outage(StoreUnavailable):
    """What a process hears when its link breaks."""


class LinkedStore(Store):
    """One process's store. `touch` is called at each point; what it raises is what the process meets there.

    Processes of a store in memory share its one engine.
    """

    def __init__(self, url: str, clock: Clock, touch: Callable[[str], None], engine: Engine | None = None) -> None:
        super().__init__(url, clock=clock)
        self.touch = touch
        self.compiled = _COMPILED
        self._engine = engine
        # One thread runs at a time, and none is stopped within a transaction.
        self.guard = nullcontext()

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection over the link."""
        connection = LinkedConnection(self)
        try:
            yield connection
        finally:
            connection.close()

    @contextmanager
    def unlinked(self) -> Iterator[Connection]:
        """A connection that nothing happens to, for who looks on."""
        connection = Connection(self)
        try:
            yield connection
        finally:
            connection.close()


class LinkedConnection(Connection):
    """Within a transaction only its commit is a point: whatever happens before is rolled back the same."""

    store: LinkedStore
    _inside = False

    def _command(self, sql: str) -> None:
        if sql == "ROLLBACK":
            self._roll_back()
        elif sql == "COMMIT":
            self._meet("before commit")
            super()._command(sql)
            self._inside = False
            self._meet("after commit")
        else:
            self._meet("begin")
            super()._command(sql)
            self._inside = True

    def _run(self, how: str, sql: str, params: Any) -> list[Row]:
        if self._inside:
            return super()._run(how, sql, params)
        writes = sql.lstrip().startswith(WRITES)
        self._meet("before write" if writes else "read")
        rows = super()._run(how, sql, params)
        if writes:
            self._meet("after write")
        return rows

    def _meet(self, point: str) -> None:
        try:
            self.store.touch(point)
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        if self._inside:
            self._inside = False
            super()._command("ROLLBACK")

    def _drop(self) -> None:
        if not self.store.in_memory:
            super()._drop()
        else:
            # The one connection is the database.
            self._roll_back()
            self._raw = self._cursor = None


@contextmanager
def hasty_retries() -> Iterator[None]:
    """Outages end at once: nobody sleeps between tries, and a slow machine loses no patience."""
    real = connections.time
    connections.time = SimpleNamespace(monotonic=lambda: 0.0, sleep=lambda _seconds: None)  # type: ignore[assignment]
    try:
        yield
    finally:
        connections.time = real
