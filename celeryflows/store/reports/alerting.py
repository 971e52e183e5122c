"""Failures by when they happened, as alerts count them: our own events tell, whenever their runs were made."""

import json
from dataclasses import dataclass

from sqlalchemy import func, select

from celeryflows.model.events import RUN_FAILED
from celeryflows.store.database import Store
from celeryflows.store.reports.reading import read
from celeryflows.store.schema import events

# So many are looked into; more are counted.
LOOK = 1_000


@dataclass(frozen=True, slots=True)
class Failed:
    """A run that failed, and its error in a line."""

    run_id: str
    flow: str
    error: str


@dataclass(frozen=True, slots=True)
class FailedSince:
    """How many runs failed in a time, and the newest of them."""

    count: int
    newest: tuple[Failed, ...]


def failed_since(store: Store, after: int, until: int) -> FailedSince:
    """Runs that failed after one moment and up to another, in microseconds."""
    here = (events.c.name == RUN_FAILED, events.c.arrived_at > after, events.c.arrived_at <= until)
    (count,) = read(store, select(func.count()).where(*here))[0]
    query = select(events.c.data).where(*here).order_by(events.c.arrived_at.desc()).limit(LOOK)
    return FailedSince(int(count), tuple(_failed(row[0]) for row in read(store, query)))


def _failed(text: str) -> Failed:
    data = json.loads(text)
    error = data.get("error") or {}
    return Failed(
        str(data.get("run_id", "")), str(data.get("flow", "")), f"{error.get('name')}: {error.get('message')}"
    )
