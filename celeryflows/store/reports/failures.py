"""Runs that failed, the newest first, as far as a page looks back. Plain Core, a short read."""

from dataclasses import dataclass

from sqlalchemy import select

from celeryflows.model.runs import Status
from celeryflows.store.database import Store
from celeryflows.store.reports.reading import read
from celeryflows.store.reports.runs import ended_badly, standing
from celeryflows.store.retention import first_id
from celeryflows.store.schema import runs


@dataclass(frozen=True, slots=True)
class FailedRun:
    """A run that failed: its error as JSON, and when (microseconds)."""

    id: str
    flow: str
    error: str | None
    ended_at: int | None


def failed_runs(store: Store, flow: str | None, since: int | None, limit: int) -> list[FailedRun]:
    """The newest failed runs of a flow or of all, of those made since then."""
    query = select(runs.c.id, runs.c.flow, runs.c.error, runs.c.ended_at)
    if flow is None:
        query = query.where(standing(Status.FAILED))
    else:
        query = query.where(ended_badly(store, Status.FAILED), runs.c.flow == flow)
    if since is not None:
        query = query.where(runs.c.id >= first_id(since))
    return [FailedRun(*row) for row in read(store, query.order_by(runs.c.id.desc()).limit(limit))]
