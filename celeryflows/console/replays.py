"""Replays on the desk: how far each one is, and how the runs that it started stand."""

from dataclasses import dataclass
from datetime import datetime

from celeryflows.console.pages import moment
from celeryflows.durations import SECOND, to_datetime
from celeryflows.engine.replay import known_replay
from celeryflows.engine.runtime import Runtime
from celeryflows.model.replays import read_selection
from celeryflows.store.replays import ReplayRow
from celeryflows.store.reports.replays import count_replayed, list_replays


@dataclass(frozen=True, slots=True)
class ReplaySummary:
    """A replay. `standing`: under way, done, cancelled; `pace` is runs a second, `runs` counts those started by status.

    It is `done` when all were started; their own ends show in `runs`.
    """

    id: str
    flow: str
    standing: str
    total: int
    done: int
    runs: dict[str, int]
    pace: float
    status: tuple[str, ...]
    after: datetime | None
    before: datetime | None
    if_exp: str | None
    started_at: datetime
    ended_at: datetime | None
    cancelled: str | None


def replays(runtime: Runtime, limit: int = 50) -> list[ReplaySummary]:
    """Replays, the newest first."""
    return [_summary(runtime, row) for row in list_replays(runtime.store, limit)]


def replay(runtime: Runtime, replay_id: str) -> ReplaySummary:
    """One replay as it stands now. Raises RerunRefused when there is none."""
    with runtime.store.connection() as connection:
        row = known_replay(connection, replay_id)
    return _summary(runtime, row)


def _summary(runtime: Runtime, row: ReplayRow) -> ReplaySummary:
    selection = read_selection(row.selection)
    ended = "done" if selection.cancelled is None else "cancelled"
    return ReplaySummary(
        id=row.id,
        flow=row.flow,
        standing="under way" if row.ended_at is None else ended,
        total=row.total,
        done=row.done,
        runs=count_replayed(runtime.store, row.id),
        pace=SECOND / row.pace,
        status=selection.statuses,
        after=moment(selection.after),
        before=moment(selection.before),
        if_exp=selection.if_exp,
        started_at=to_datetime(row.started_at),
        ended_at=moment(row.ended_at),
        cancelled=selection.cancelled,
    )
