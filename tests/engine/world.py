"""A world for engine tests: processes over one store, one list of messages instead of a broker, time turned by hand.

The test kit is one process with a store of its own; here are several, of one app or more, and any database."""

import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from functools import lru_cache
from typing import Any

from celery import Celery

from celeryflows import Event, Flows, RunHandle, Status
from celeryflows.clock import Clock, SystemClock, TurnedClock
from celeryflows.durations import Duration, parse_duration
from celeryflows.engine.registrar import register_worker, release_of
from celeryflows.model.steps import Failure
from celeryflows.scheduler.inline import InlineDispatcher, InlineWorld
from celeryflows.store.database import Store
from celeryflows.store.reports.events import EventView, list_events
from celeryflows.store.reports.runs import RunView
from celeryflows.store.upgrade import upgrade
from celeryflows.store.workers import WorkerRow

# A Monday, 2024-01-01T00:00:00Z: the summers and winters around it are known.
NEW_YEAR = 1_704_067_200_000_000


class Process:
    """One process of an app: its own flows, cache and worker id, over a store and messages that others share."""

    def __init__(
        self, store: Store, clock: Clock, broker: InlineDispatcher, app: str = "shop", **settings: object
    ) -> None:
        celery = Celery(app, broker="memory://", set_as_current=False)
        celery.conf.update({f"flows_{name}": value for name, value in settings.items()})
        self._clock = clock
        self.flows = Flows(celery)
        self.flow = self.flows.flow
        self.runtime = self.flows._wiring.current.runtime_on(store, broker, clock)
        self._inline = InlineWorld(self.runtime, broker, clock)  # type: ignore[arg-type]
        self._replaced = ExitStack()
        self._replaced.enter_context(self.flows.using(self.runtime))

    def start_worker(self) -> bool:
        """Enter this process as a worker and declare its flows; True when they count."""
        if isinstance(self._clock, TurnedClock):
            # No two releases are first seen in the same microsecond.
            self._clock.turn(1)
        row = WorkerRow(self.runtime.worker, self.runtime.app, self.release(), "host", 1, "solo", "celery")
        with self.runtime.store.connection() as connection:
            connection.workers.start(row)
        return register_worker(self.runtime)

    def stop_worker(self) -> None:
        """Leave politely."""
        with self.runtime.store.connection() as connection:
            connection.workers.stop(self.runtime.worker)

    def release(self) -> str:
        """The name of all that it declares."""
        return release_of([flow.definition for flow in self.runtime.flows.values()])

    def send(self, event: Event | Sequence[Event] | str, data: Any = None, **more: Any) -> list[str]:
        """Send, and take every turn that follows."""
        ids = self.flows.send(event, data, **more)
        self.drain()
        return ids

    def drain(self) -> None:
        """Take turns until no message is left."""
        self._inline.drain()

    def run_due(self) -> None:
        """Do all that is due now, and what follows."""
        self._inline.run_due()

    def turn_to(self, moment: int) -> None:
        """Turn the clock, stopping at all that is due on the way."""
        self._inline.turn_to(moment)

    def close(self) -> None:
        """Give the app its own engine back."""
        self._replaced.close()


class World(Process):
    """One process with a turned clock and a store in memory, which others may join."""

    def __init__(self, store: Store | None = None, **settings: object) -> None:
        self.store = store or memory_store(TurnedClock(NEW_YEAR))
        # A clock that is not turned is the machine's own; then nothing may turn it.
        self.clock: TurnedClock = self.store.clock  # type: ignore[assignment]
        self.broker = InlineDispatcher()
        super().__init__(self.store, self.clock, self.broker, **settings)
        self._others: list[Process] = []

    def process(self, app: str = "shop", **settings: object) -> Process:
        """Another process over the same store."""
        other = Process(self.store, self.clock, self.broker, app, **settings)
        self._others.append(other)
        return other

    def advance(self, duration: Duration) -> None:
        """Turn the clock on; all that is due on the way is done in order."""
        self.turn_to(self.clock.now() + parse_duration(duration))

    def tick(self) -> int:
        """A microsecond passes: what follows is later than what was; the new time."""
        self.clock.turn(1)
        return self.clock.now()

    def runs(self, flow: str | None = None, status: str | None = None) -> list[RunHandle]:
        """Runs in the order in which they were made."""
        with self.store.connection() as connection:
            rows = connection.execute(
                "SELECT id FROM flows_runs WHERE (CAST(:flow AS text) IS NULL OR flow = :flow) "
                "AND (CAST(:status AS text) IS NULL OR status = :status) ORDER BY created_at, id",
                flow=flow,
                status=status,
            )
        return [self.flows.run(row[0]) for row in rows]

    def only_run(self, flow: str | None = None) -> RunHandle:
        """The one run that there is."""
        (run,) = self.runs(flow)
        return run

    def events(self, own: bool = False) -> list[EventView]:
        """Events in the order in which they were stored."""
        return sorted(list_events(self.store, own=own, limit=10_000), key=lambda e: (e.stored_at, e.id))

    def store_rows(self, sql: str, **params: Any) -> list[tuple[Any, ...]]:
        """Run one statement on the store."""
        with self.store.connection() as connection:
            return connection.execute(sql, **params)

    def close(self) -> None:
        """End it with all who joined."""
        for process in self._others:
            process.close()
        super().close()
        self.store.dispose()


def memory_store(clock: Clock | None = None) -> Store:
    """A prepared store in memory: the schema is made once and copied."""
    store = Store("sqlite://", clock=clock or SystemClock())
    raw = store.engine.raw_connection()
    try:
        raw.driver_connection.deserialize(_schema())  # type: ignore[union-attr]
    finally:
        raw.close()
    store.prepare()
    return store


def store_at(url: str, clock: Clock | None = None) -> Store:
    """A prepared store of any kind."""
    store = Store(url, clock=clock)
    upgrade(store)
    return store


@lru_cache(maxsize=1)
def _schema() -> bytes:
    store = Store("sqlite://")
    store.prepare()
    raw = store.engine.raw_connection()
    try:
        connection: sqlite3.Connection = raw.driver_connection  # type: ignore[assignment]
        return connection.serialize()
    finally:
        raw.close()
        store.dispose()


def statuses(runs: Sequence[RunHandle] | Sequence[RunView]) -> list[Status]:
    """How they stand."""
    return [Status(run.status) for run in runs]


def error_of(run: RunHandle) -> Failure:
    """The error of a run that failed."""
    assert run.status == Status.FAILED, f"run is {run.status}, its output {run.output!r}"
    assert run.error is not None
    return run.error


def us(duration: str | timedelta) -> int:
    """A duration in microseconds."""
    return parse_duration(duration)
