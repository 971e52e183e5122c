"""Open runs of a flow, chosen by time and state, and what a condition asks of them. Plain Core, each a short read."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, literal_column, or_, select

from celeryflows.model.events import StoredEvent
from celeryflows.model.runs import Status
from celeryflows.store.database import Store
from celeryflows.store.events import COLUMNS, read_event
from celeryflows.store.reports.reading import read
from celeryflows.store.reports.runs import standing
from celeryflows.store.schema import events, runs

# Sought by their states, which few runs are in, not along all ids of the flow.
_ID = runs.c.id + literal_column("''")


def open_runs(
    store: Store, flow: str, statuses: Sequence[Status], *, span: tuple[int | None, int | None], cursor: str, limit: int
) -> list[str]:
    """Ids above `cursor`, rising, of a flow's runs in these states; `span` is from when, and before when, they were
    created."""
    query: Select[Any] = select(runs.c.id).where(or_(*map(standing, statuses)), runs.c.flow == flow, cursor < _ID)
    after, before = span
    if after is not None:
        query = query.where(runs.c.created_at >= after)
    if before is not None:
        query = query.where(runs.c.created_at < before)
    return [row[0] for row in read(store, query.order_by(_ID).limit(limit))]


def events_of_runs(store: Store, run_ids: Sequence[str]) -> list[tuple[str, str | None, StoredEvent]]:
    """Runs by id, each with its last error and its event."""
    columns = [events.c[name] for name in COLUMNS.split(", ")]
    query = select(runs.c.id, runs.c.error, *columns).where(runs.c.id.in_(run_ids), events.c.id == runs.c.event_id)
    return [(row[0], row[1], read_event(row[2:])) for row in read(store, query.order_by(runs.c.id))]
