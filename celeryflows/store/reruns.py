"""Reruns: new runs of old events, and what is copied of the run that they repeat."""

from collections.abc import Sequence
from dataclasses import dataclass

from celeryflows.model.reruns import BranchPath, RecordedStep
from celeryflows.store.executor import Verbs

# A copied memo stands under turn 0: before the first.
COPY_STEPS = """
INSERT INTO flows_steps (run_id, key, kind, state, attempts, value, turn, began, ended_at, took, due_at, branch, given)
SELECT CAST(:run AS varchar), key, kind, state, attempts, value, 0, began, ended_at, took, due_at, branch, given
FROM flows_steps WHERE run_id = :origin AND key {in_texts:keys} ON CONFLICT (run_id, key) DO NOTHING
"""


COPY_GROUPS = """
INSERT INTO flows_groups (run_id, path, kind, state, remaining, winner, began)
SELECT CAST(:run AS varchar), path, kind, state, remaining, winner, began FROM flows_groups
WHERE run_id = :origin AND path {in_texts:keys} ON CONFLICT DO NOTHING
"""

COPY_BRANCHES = """
INSERT INTO flows_branches (run_id, path, group_path, parent_path, idx, status, created_at, started_at, ended_at, value,
  error)
SELECT CAST(:run AS varchar), path, group_path, parent_path, idx, status, created_at, started_at, ended_at, value, error
FROM flows_branches WHERE run_id = :origin AND group_path {in_texts:keys}
  AND status IN ('completed', 'failed', 'cancelled') ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class Original:
    """The run that is repeated."""

    id: str
    flow: str
    status: str
    event_id: str
    message: str | None
    batch: int | None = None


@dataclass(frozen=True, slots=True)
class NewRerun:
    """A run to start anew. `origin` is the run that it repeats, None when it repeats an event."""

    id: str
    flow: str
    version: str | None
    event_id: str
    origin: str | None
    message: str | None


class Reruns(Verbs):
    """The verbs of reruns."""

    def original(self, run_id: str) -> Original | None:
        """The run to repeat, locked so that it stays; None when there is none."""
        rows = self._execute(
            "SELECT id, flow, status, event_id, message, batch FROM flows_runs WHERE id = :id {share}", id=run_id
        )
        return Original(*rows[0]) if rows else None

    def add(self, runs: Sequence[NewRerun]) -> None:
        """Write queued runs; one whose id is there already is left as it is. Their events are locked, or retention
        might take them meanwhile."""
        self._many(
            "INSERT INTO flows_runs (id, flow, version, status, event_id, message, origin, created_at, sent_at, "
            "batch) SELECT CAST(:id AS varchar), CAST(:flow AS varchar), CAST(:version AS varchar), 'queued', e.id, "
            "CAST(:message AS text), CAST(:origin AS varchar), {now}, {now}, "
            "(SELECT o.batch FROM flows_runs o WHERE o.id = CAST(:origin AS varchar)) "
            "FROM flows_events e WHERE e.id = :event_id {share} "
            "ON CONFLICT (id) DO NOTHING",
            [{name: getattr(run, name) for name in run.__slots__} for run in runs],
        )

    def there(self, run_ids: Sequence[str]) -> set[str]:
        """Those of the runs that are in the store."""
        rows = self._execute("SELECT id FROM flows_runs WHERE id {in_texts:ids}", ids=self._array(run_ids))
        return {row[0] for row in rows}

    def recorded(self, run_id: str) -> list[RecordedStep]:
        """A run's steps in the order in which they began; of those that began at once, in that of their end."""
        rows = self._execute(
            "SELECT s.key, s.kind, s.state, s.began, w.state, g.state, "
            "CASE WHEN w.kind = 'task' THEN w.path ELSE '' END FROM flows_steps s "
            "LEFT JOIN flows_waits w ON w.run_id = s.run_id AND w.key = s.key "
            "LEFT JOIN flows_groups g ON g.run_id = s.run_id AND g.path = s.key "
            "WHERE s.run_id = :run ORDER BY s.began, s.ended_at, {written}",
            run=run_id,
        )
        return [RecordedStep(*row) for row in rows]

    def branches(self, run_id: str) -> list[BranchPath]:
        """The branches of a run's groups."""
        rows = self._execute("SELECT path, group_path FROM flows_branches WHERE run_id = :run", run=run_id)
        return [BranchPath(*row) for row in rows]

    def copy(self, origin: str, run_id: str, keys: Sequence[str], waits: Sequence[tuple[str, str]]) -> None:
        """Copy these memos with their groups; `waits` are ids of the new run's waits by key, for those that wait."""
        for statement in (COPY_STEPS, COPY_GROUPS, COPY_BRANCHES):
            self._execute(statement, run=run_id, origin=origin, keys=self._array(keys))
        for key, wait_id in waits:
            self._execute(
                "INSERT INTO flows_waits (id, run_id, key, kind, name, path, hash, value, if_exp, began, armed_at, "
                "state, event_id, due_at, problem, branch) SELECT CAST(:id AS varchar), CAST(:run AS varchar), key, "
                "kind, name, path, hash, value, if_exp, began, armed_at, state, event_id, due_at, problem, branch "
                "FROM flows_waits WHERE run_id = :origin AND key = :key ON CONFLICT DO NOTHING",
                id=wait_id,
                run=run_id,
                origin=origin,
                key=key,
            )

    def put_input(self, origin: str, run_id: str, key: str, text: str) -> None:
        """A step of the run that is repeated, which will run with these arguments."""
        self._execute(
            "INSERT INTO flows_steps (run_id, key, kind, state, attempts, turn, began, input, branch) "
            "SELECT CAST(:run AS varchar), key, kind, 'edited', 0, 0, {now}, CAST(:input AS text), branch "
            "FROM flows_steps WHERE run_id = :origin AND key = :key ON CONFLICT (run_id, key) DO NOTHING",
            run=run_id,
            origin=origin,
            key=key,
            input=text,
        )

    def inputs(self, run_id: str) -> dict[str, str]:
        """The edited arguments of a run's steps."""
        rows = self._execute("SELECT key, input FROM flows_steps WHERE run_id = :run AND input IS NOT NULL", run=run_id)
        return dict(rows)
