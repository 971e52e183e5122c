"""Workers on the desk: who is alive, and who leads."""

from dataclasses import dataclass
from datetime import datetime

from celeryflows.durations import to_datetime
from celeryflows.engine.runtime import Runtime
from celeryflows.engine.settings import Settings
from celeryflows.store.database import Store
from celeryflows.store.reports.workers import list_workers


@dataclass(frozen=True, slots=True)
class WorkerSummary:
    """A worker process. `alive`: it has beaten within `flows_dead_after`; `leads`: it does timers and recovery."""

    id: str
    app: str
    release: str
    host: str
    pid: int
    pool: str
    queues: tuple[str, ...]
    started_at: datetime
    beat_at: datetime
    alive: bool
    leads: bool


def workers(runtime: Runtime) -> list[WorkerSummary]:
    """Every worker that is entered in the store, the oldest first."""
    return workers_of(runtime.store, runtime.settings)


def workers_of(store: Store, settings: Settings) -> list[WorkerSummary]:
    """The same of a store alone."""
    found = list_workers(store)
    return [
        WorkerSummary(
            id=row.id,
            app=row.app,
            release=row.release,
            host=row.host,
            pid=row.pid,
            pool=row.pool,
            queues=tuple(filter(None, row.queues.split(","))),
            started_at=to_datetime(row.started_at),
            beat_at=to_datetime(row.beat_at),
            alive=found.now - row.beat_at < settings.dead_after,
            leads=row.id == found.leader,
        )
        for row in found.workers
    ]
