"""What is old goes: ended runs with all that is theirs, then the events that nobody holds. Found by indexes alone."""

from collections.abc import Sequence
from dataclasses import dataclass

from celeryflows.ids import seeded_ids
from celeryflows.model.runs import ENDED
from celeryflows.store.executor import Row, Verbs

ENDED_WORDS = ", ".join(f"'{status}'" for status in sorted(ENDED))
_COLUMNS = "id, status, ended_at, owes, event_id, parent"
_PAGE = f"SELECT {_COLUMNS} FROM flows_runs WHERE id > :after AND id < :below ORDER BY id LIMIT :most"
_PAGE_OF_FLOW = f"SELECT {_COLUMNS} FROM flows_runs WHERE flow = :flow AND id > :after ORDER BY id LIMIT :most"
# Ids that were not made from the time, such as a Celery client's: these runs stand in an index by their end.
_PAGE_ODD = (
    f"SELECT {_COLUMNS} FROM flows_runs WHERE {{odd}} AND {{odd_ended_at}} <= :before AND ({{odd_ended_at}} > :since "
    "OR ({odd_ended_at} = :since AND id > :after)) ORDER BY {odd_ended_at}, id LIMIT :most"
)
_TIME_LETTERS = 10


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that a walk came by."""

    id: str
    status: str
    ended_at: int | None
    owes: str | None
    event_id: str
    parent: str | None

    def is_old(self, before: int) -> bool:
        """True when it ended before the moment and owes nobody anything."""
        return self.status in ENDED and self.ended_at is not None and self.ended_at <= before and self.owes is None


def first_id(at: int) -> str:
    """Sorts before every id that was made from this moment (microseconds) on."""
    return next(iter(seeded_ids(max(0, at // 1000), b"")))[:_TIME_LETTERS]


class Retention(Verbs):
    """The verbs of forgetting. A page is bounded by the rows that are looked at, not by those that are found."""

    def runs_by_id(self, after: str, below: str, limit: int) -> list[Ended]:
        """Runs whose ids tell that they were made before."""
        return _ended(self._execute(_PAGE, after=after, below=below, most=limit))

    def runs_of_flow(self, flow: str, after: str, limit: int) -> list[Ended]:
        """A flow's runs by id."""
        return _ended(self._execute(_PAGE_OF_FLOW, flow=flow, after=after, most=limit))

    def odd_runs(self, before: int, since: int, after: str, limit: int) -> list[Ended]:
        """Runs whose ids tell no time, by their end, then id."""
        return _ended(self._execute(_PAGE_ODD, before=before, since=since, after=after, most=limit))

    def held(self, runs: Sequence[Ended], sent_after: int) -> set[str]:
        """Those of the runs that stay: a parent or child is under way, or a repeat of their event's id may still come
        (it was sent by its sender's own id after `sent_after`)."""
        ids = [run.id for run in runs]
        parents = sorted({run.parent for run in runs if run.parent is not None})
        is_open = f"status NOT IN ({ENDED_WORDS})"
        of_children = self._execute(
            f"SELECT parent FROM flows_runs WHERE parent {{in_texts:ids}} AND {is_open}", ids=self._array(ids)
        )
        of_parents = self._execute(
            f"SELECT id FROM flows_runs WHERE id {{in_texts:ids}} AND {is_open}", ids=self._array(parents)
        )
        of_senders = self._execute(
            "SELECT id FROM flows_events WHERE id {in_texts:ids} AND ext_id IS NOT NULL AND stored_at > :sent",
            ids=self._array(sorted({run.event_id for run in runs})),
            sent=sent_after,
        )
        open_ones, repeatable = {row[0] for row in of_parents}, {row[0] for row in of_senders}
        kept = {run.id for run in runs if run.parent in open_ones or run.event_id in repeatable}
        return kept | {row[0] for row in of_children}

    def forget_runs(self, run_ids: Sequence[str]) -> tuple[int, list[str]]:
        """Delete runs with their groups, branches, tasks, waits and steps; how many, and the events that they held."""
        ids = self._array(sorted(run_ids))
        self._execute("DELETE FROM flows_groups WHERE run_id {in_texts:ids}", ids=ids)
        gone = self._execute(
            f"DELETE FROM flows_runs WHERE id {{in_texts:ids}} AND status IN ({ENDED_WORDS}) RETURNING id, event_id",
            ids=ids,
        )
        ids = self._array(sorted(row[0] for row in gone))
        self._execute("DELETE FROM flows_branches WHERE run_id {in_texts:ids}", ids=ids)
        self._execute("DELETE FROM flows_tasks WHERE run_id {in_texts:ids}", ids=ids)
        waits = self._execute("DELETE FROM flows_waits WHERE run_id {in_texts:ids} RETURNING event_id", ids=ids)
        self._execute("DELETE FROM flows_steps WHERE run_id {in_texts:ids}", ids=ids)
        self._execute("DELETE FROM flows_attempts WHERE run_id {in_texts:ids}", ids=ids)
        joined = self._execute("DELETE FROM flows_batch_events WHERE run_id {in_texts:ids} RETURNING event_id", ids=ids)
        held = {row[1] for row in gone} | {row[0] for row in (*waits, *joined) if row[0] is not None}
        return len(gone), sorted(held)

    def events_by_id(self, after: str, below: str, limit: int) -> list[str]:
        """Events whose ids tell that they were made before."""
        rows = self._execute(
            "SELECT id FROM flows_events WHERE id > :after AND id < :below ORDER BY id LIMIT :most",
            after=after,
            below=below,
            most=limit,
        )
        return [row[0] for row in rows]

    def events_of_name(self, name: str, before: int, since: int, after: str, limit: int) -> list[tuple[str, int]]:
        """Events of a name by their arrival, then id; for those whose ids tell no time."""
        return self._execute(
            "SELECT id, arrived_at FROM flows_events WHERE name = :name AND arrived_at <= :before "
            "AND (arrived_at > :since OR (arrived_at = :since AND id > :after)) ORDER BY arrived_at, id LIMIT :most",
            name=name,
            before=before,
            since=since,
            after=after,
            most=limit,
        )

    def forget_events(self, event_ids: Sequence[str], before: int, sent_after: int) -> int:
        """Delete those of the events that are old and that no run and no wait holds; how many.

        Who takes up an old event locks its row first: so is ours, and the look is a later statement than the lock.
        """
        ids = self._array(sorted(event_ids))
        if self._connection.dialect.has_row_locks:
            self._execute("SELECT id FROM flows_events WHERE id {in_texts:ids} ORDER BY id {lock}", ids=ids)
        gone = self._execute(
            "DELETE FROM flows_events WHERE id {in_texts:ids} AND stored_at <= :before "
            "AND arrived_at IS NOT NULL AND piece IS NULL AND (ext_id IS NULL OR stored_at <= :sent) "
            "AND NOT EXISTS (SELECT 1 FROM flows_runs r WHERE r.event_id = flows_events.id) "
            "AND NOT EXISTS (SELECT 1 FROM flows_batch_events b WHERE b.event_id = flows_events.id) "
            "AND NOT EXISTS (SELECT 1 FROM flows_waits w WHERE w.event_id = flows_events.id) RETURNING id",
            ids=ids,
            before=before,
            sent=sent_after,
        )
        return len(gone)

    def forget_replays(self, before: int) -> None:
        """Delete replays that ended before."""
        self._execute("DELETE FROM flows_replays WHERE ended_at <= :before AND next_at IS NULL", before=before)


def _ended(rows: list[Row]) -> list[Ended]:
    return [Ended(*row) for row in rows]
