"""What workers have in hand, and what waits for them by flow. Found by partial indexes alone."""

from dataclasses import dataclass

from sqlalchemy import func, literal, select, text

from celeryflows.model.runs import Status
from celeryflows.store.columns import ALONG
from celeryflows.store.database import Store
from celeryflows.store.reports.reading import read
from celeryflows.store.reports.runs import standing
from celeryflows.store.schema import branches, runs

MOST = 1_000
# Above this the exact number of what waits tells nobody more.
MOST_WAITING = 50_000


@dataclass(frozen=True, slots=True)
class InHand:
    """A run, or a branch of one, that a worker is at work on. `since`: microseconds, when it was sent."""

    worker: str
    run_id: str
    flow: str
    path: str
    since: int | None


@dataclass(frozen=True, slots=True)
class WaitingFlow:
    """Runs of a flow that were sent and that nobody has taken, and when the oldest was sent (microseconds). `message`:
    they have sending options of their own, as JSON."""

    flow: str
    count: int
    oldest: int | None
    message: str | None = None


def in_hand(store: Store) -> list[InHand]:
    """What workers are at work on, 1,000 at most of each kind."""
    of_runs = (
        select(runs.c.worker, runs.c.id, runs.c.flow, func.coalesce(None, ""), runs.c.sent_at)
        .where(standing(Status.RUNNING), runs.c.worker.is_not(None))
        .limit(MOST)
    )
    of_branches = (
        select(branches.c.worker, branches.c.run_id, runs.c.flow, branches.c.path, branches.c.sent_at)
        .join(runs, runs.c.id == branches.c.run_id)
        .where(text(f"flows_branches.status = 'running' AND flows_branches.{ALONG}"), branches.c.worker.is_not(None))
        .limit(MOST)
    )
    return [InHand(*row) for query in (of_runs, of_branches) for row in read(store, query)]


def waiting(store: Store) -> list[WaitingFlow]:
    """What was sent and nobody has taken, by flow; the oldest 50,000 are looked at. Those with sending options of their
    own, which may name another queue, come one by one; of them the oldest 1,000."""
    sent = (standing(Status.QUEUED), runs.c.held_at.is_(None), runs.c.sent_at.is_not(None))
    oldest = (
        select(runs.c.flow, runs.c.sent_at)
        .where(*sent, runs.c.message.is_(None))
        .order_by(runs.c.sent_at)
        .limit(MOST_WAITING)
        .subquery()
    )
    by_flow = select(oldest.c.flow, func.count(), func.min(oldest.c.sent_at)).group_by(oldest.c.flow)
    own = (
        select(runs.c.flow, literal(1), runs.c.sent_at, runs.c.message)
        .where(*sent, runs.c.message.is_not(None))
        .order_by(runs.c.sent_at)
        .limit(MOST)
    )
    return [WaitingFlow(*row) for query in (by_flow, own) for row in read(store, query)]
