"""Workers as pages and terminals show them: who beats, and who leads."""

from dataclasses import dataclass

from sqlalchemy import select

from celeryflows.store.database import Store
from celeryflows.store.reports.reading import one, read
from celeryflows.store.schema import leader
from celeryflows.store.workers import WorkerRow


@dataclass(frozen=True, slots=True)
class WorkersView:
    """The workers that are entered; `now` is the store's clock (microseconds), `leader` the id of who leads."""

    now: int
    workers: tuple[WorkerRow, ...]
    leader: str | None


def list_workers(store: Store) -> WorkersView:
    """Every worker that is entered, the oldest first."""
    with store.connection() as connection:
        now, found = connection.now(), connection.workers.all()
    lease = one(read(store, select(leader.c.holder).where(leader.c.id == 1, leader.c.until > now)))
    return WorkersView(now, tuple(found), lease[0] if lease else None)
