"""Replays: many runs of a flow started again, piece by piece. Each piece is a compare-and-set on the cursor."""

from collections.abc import Sequence
from dataclasses import dataclass

from celeryflows.model.events import StoredEvent
from celeryflows.store.events import COLUMNS, read_event
from celeryflows.store.executor import Row, Verbs

ROW = "id, flow, selection, pace, cursor, total, done, next_at, started_at, ended_at"


@dataclass(frozen=True, slots=True)
class ReplayRow:
    """A replay as it stands. `pace` is microseconds from one start to the next, `cursor` the last run looked at."""

    id: str
    flow: str
    selection: str
    pace: int
    cursor: str | None
    total: int
    done: int
    next_at: int | None
    started_at: int
    ended_at: int | None


@dataclass(frozen=True, slots=True)
class Looked:
    """A run that a replay came by."""

    id: str
    status: str
    created_at: int
    ended_at: int | None
    event_id: str
    message: str | None
    is_duplicate: bool
    origin: str | None


class Replays(Verbs):
    """The verbs of replays."""

    def add(self, row: ReplayRow) -> None:
        """Write a new replay, due at once."""
        self._execute(
            f"INSERT INTO flows_replays ({ROW}) VALUES (:id, :flow, :selection, :pace, NULL, :total, 0, {{now}}, "
            "{now}, NULL) ON CONFLICT (id) DO NOTHING",
            id=row.id,
            flow=row.flow,
            selection=row.selection,
            pace=row.pace,
            total=row.total,
        )

    def get(self, replay_id: str) -> ReplayRow | None:
        """One replay, None when there is none."""
        rows = self._execute(f"SELECT {ROW} FROM flows_replays WHERE id = :id", id=replay_id)
        return ReplayRow(*rows[0]) if rows else None

    def due(self, limit: int = 20) -> list[ReplayRow]:
        """Replays of which the next run may start, the longest due first. No lock: the compare-and-set decides."""
        rows = self._execute(
            f"SELECT {ROW} FROM flows_replays WHERE next_at <= {{by_now}} ORDER BY next_at LIMIT :most", most=limit
        )
        return [ReplayRow(*row) for row in rows]

    def look(self, flow: str, after: str | None, limit: int) -> list[Looked]:
        """The flow's next runs by id, whatever became of them: a bounded look."""
        rows = self._execute(
            "SELECT id, status, created_at, ended_at, event_id, message, "
            "COALESCE(status = 'skipped' AND (reason LIKE 'duplicate%' OR continued_as IS NOT NULL), false), origin "
            "FROM flows_runs WHERE flow = :flow AND id > :after ORDER BY id LIMIT :most",
            flow=flow,
            after=after or "",
            most=limit,
        )
        return [Looked(*row) for row in rows]

    def events(self, event_ids: Sequence[str]) -> dict[str, StoredEvent]:
        """These events, by id."""
        rows: list[Row] = self._execute(
            f"SELECT {COLUMNS} FROM flows_events WHERE id {{in_texts:ids}}", ids=self._array(sorted(set(event_ids)))
        )
        return {row[0]: read_event(row) for row in rows}

    def advance(self, row: ReplayRow, cursor: str | None, started: int, next_at: int | None) -> bool:
        """Move on from where `row` stood; False when it is not there any more. Without `next_at` it is at its end."""
        return bool(
            self._execute(
                "UPDATE flows_replays SET cursor = :to, done = done + :started, next_at = CAST(:next AS bigint), "
                "ended_at = CASE WHEN CAST(:next AS bigint) IS NULL THEN {now} END "
                "WHERE id = :id AND next_at IS NOT NULL AND done = :done "
                "AND COALESCE(cursor, '') = COALESCE(CAST(:cursor AS varchar), '') RETURNING id",
                id=row.id,
                to=cursor,
                started=started,
                next=next_at,
                done=row.done,
                cursor=row.cursor,
            )
        )

    def wait(self, row: ReplayRow, length: int) -> None:
        """Look again in so many microseconds."""
        self._execute(
            "UPDATE flows_replays SET next_at = {now} + :length WHERE id = :id AND next_at = :next",
            id=row.id,
            next=row.next_at,
            length=length,
        )

    def stop(self, replay_id: str, selection: str) -> bool:
        """End a replay that is under way; False when it has ended."""
        return bool(
            self._execute(
                "UPDATE flows_replays SET next_at = NULL, ended_at = {now}, selection = :selection "
                "WHERE id = :id AND next_at IS NOT NULL RETURNING id",
                id=replay_id,
                selection=selection,
            )
        )

    def is_paused(self, flow: str) -> bool:
        """True while nothing of the flow is started."""
        return bool(self._execute("SELECT 1 FROM flows_flows WHERE name = :flow AND paused_at IS NOT NULL", flow=flow))
