"""A store behind a link at which the simulation stands: before and after every commit, and before every read."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from types import SimpleNamespace
from typing import Any

from celeryflows.clock import TurnedClock
from celeryflows.errors import StoreUnavailable
from celeryflows.store import connection as connections
from celeryflows.store.connection import Connection
from celeryflows.store.executor import Row
from tests.simulation.early_claims import LinkedBundles
from tests.simulation.ledger import Ledger
from tests.simulation.stores import KeptConnection, WorldStore

WRITES = ("INSERT", "UPDATE", "DELETE", "WITH")


class Outage(StoreUnavailable):
    """What a process hears when its link breaks."""


class LinkedStore(WorldStore):
    """One process's store. `touch` is called at each point; what it raises is what the process meets there. The ledger
    is told of claims that are given back.

    All processes share the world's one connection.
    """

    def __init__(self, clock: TurnedClock, shared: WorldStore, touch: Callable[[str], None], ledger: Ledger) -> None:
        super().__init__(clock, shared)
        self.touch = touch
        self.ledger = ledger

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection over the link."""
        yield LinkedConnection(self)


class LinkedConnection(KeptConnection):
    """Within a transaction only its commit is a point: whatever happens before is rolled back the same."""

    store: LinkedStore
    _inside = False

    @cached_property
    def bundles(self) -> LinkedBundles:
        """With the verbs of databases that can."""
        return LinkedBundles(self, self.store.ledger)

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
        # The one connection is the database.
        self._roll_back()
        self.close()


@contextmanager
def hasty_retries() -> Iterator[None]:
    """Outages end at once: nobody sleeps between tries, and a slow machine loses no patience."""
    real = connections.time
    connections.time = SimpleNamespace(monotonic=lambda: 0.0, sleep=lambda _seconds: None)  # type: ignore[assignment]
    try:
        yield
    finally:
        connections.time = real
