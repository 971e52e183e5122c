"""Events by when they were received, and the runs of one, as the REST API shows them."""

from typing import Any

from sqlalchemy import Select, select, union

from celeryflows.durations import DAY
from celeryflows.model.events import RESERVED
from celeryflows.store.database import Store
from celeryflows.store.limit_tables import batch_events
from celeryflows.store.reports.events import EVENT, EventView
from celeryflows.store.reports.reading import read
from celeryflows.store.reports.runs import RUN, RunView
from celeryflows.store.retention import first_id
from celeryflows.store.schema import events, runs

# Ids begin with the time of who made them; no client's clock is further off than that.
OFF = DAY


def list_received(
    store: Store, *, name: str | None, span: tuple[int | None, int | None], limit: int, cursor: str | None
) -> list[EventView]:
    """Events by id, the newest first, received from then on, and before then (microseconds); our own when named."""
    after, before = span
    query: Select[Any] = select(*EVENT).order_by(events.c.id.desc()).limit(limit)
    if name is not None:
        query = query.where(events.c.name == name)
    else:
        query = query.where(~events.c.name.startswith(RESERVED, autoescape=True))
    if cursor is not None:
        query = query.where(events.c.id < cursor)
    # The ids bound what is looked at, the moments what is shown.
    if after is not None:
        query = query.where(events.c.stored_at >= after, events.c.id >= first_id(max(0, after - OFF)))
    if before is not None:
        query = query.where(events.c.stored_at < before, events.c.id < first_id(max(0, before + OFF)))
    return [EventView(*row) for row in read(store, query)]


def runs_of_event(store: Store, event_id: str) -> list[RunView]:
    """The runs that an event started, or went into, the oldest id first."""
    started = select(runs.c.id).where(runs.c.event_id == event_id)
    joined = select(batch_events.c.run_id).where(batch_events.c.event_id == event_id)
    query = select(*RUN).where(runs.c.id.in_(union(started, joined).scalar_subquery())).order_by(runs.c.id)
    return [RunView(*row) for row in read(store, query)]
