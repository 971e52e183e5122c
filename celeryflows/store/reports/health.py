"""What waits too long: messages, timers, events and runs that somebody should have taken up."""

from dataclasses import dataclass

from sqlalchemy import func, select, text

from celeryflows.store.columns import ALONG
from celeryflows.store.database import Store
from celeryflows.store.reports.reading import read
from celeryflows.store.schema import calls, events, runs


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many wait, and since when the oldest does (microseconds, None for nobody)."""

    count: int
    oldest: int | None


def queued(store: Store) -> Waiting:
    """Runs whose message nobody has taken."""
    return _ask(
        store,
        select(func.count(), func.min(runs.c.sent_at)).where(
            runs.c.status == "queued", text(ALONG), runs.c.held_at.is_(None)
        ),
    )


def overdue(store: Store, before: int) -> Waiting:
    """Runs that should have been woken before the moment."""
    return _ask(store, select(func.count(), func.min(runs.c.wake_at)).where(runs.c.wake_at <= before, text(ALONG)))


def unrouted(store: Store, before: int) -> Waiting:
    """Events stored before the moment that were not, or not wholly, routed, and calls that were not started."""
    late = select(events.c.stored_at).where(text(f"{store.dialect.word('unrouted')} <= :before"))
    left = late.union_all(select(calls.c.stored_at).where(calls.c.stored_at <= before)).subquery()
    return _ask(store, select(func.count(), func.min(left.c.stored_at)).params(before=before))


def _ask(store: Store, query: object) -> Waiting:
    return Waiting(*read(store, query)[0])  # type: ignore[arg-type]
