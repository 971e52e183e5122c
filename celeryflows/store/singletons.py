"""Singletons: whose turn it is. A row holds as long as its run is open, so that no end of a run has to free it."""

from collections.abc import Sequence

from celeryflows.store.executor import Verbs


class Singletons(Verbs):
    """The verbs of singletons; lock class 5, so take them sorted."""

    def take(self, key: str, run_id: str) -> str:
        """Lock the key's row, made for this run if there is none: the run that has it."""
        rows = self._execute(
            "INSERT INTO flows_singletons (key, run_id) VALUES (:key, :run) "
            "ON CONFLICT (key) DO UPDATE SET key = excluded.key RETURNING run_id",
            key=key,
            run=run_id,
        )
        return str(rows[0][0])

    def open_holder(self, run_id: str) -> str | None:
        """The run, or the one that goes on for it, while that is open: a later statement than the lock."""
        rows = self._execute(
            "WITH RECURSIVE chain AS (SELECT id, status, continued_as FROM flows_runs WHERE id = :run "
            "UNION ALL SELECT r.id, r.status, r.continued_as FROM chain JOIN flows_runs r ON r.id = chain.continued_as)"
            " SELECT id FROM chain WHERE status IN ('scheduled', 'queued', 'running', 'suspended') "
            "AND continued_as IS NULL",
            run=run_id,
        )
        return rows[0][0] if rows else None

    def give(self, key: str, run_id: str) -> None:
        """A locked key goes to this run."""
        self._execute("UPDATE flows_singletons SET run_id = :run WHERE key = :key", key=key, run=run_id)

    def pass_on(self, run_id: str, next_id: str) -> None:
        """All that the run has goes to the one that goes on for it."""
        self._execute("UPDATE flows_singletons SET run_id = :next WHERE run_id = :run", run=run_id, next=next_id)

    def replaced(self, run_id: str, reason: str) -> None:
        """An open run is to be cancelled for this reason: by who replaced it, or else by the leader."""
        self._execute(
            "UPDATE flows_runs SET finish_by = {now}, reason = :reason "
            "WHERE id = :run AND status IN ('scheduled', 'queued', 'running', 'suspended')",
            run=run_id,
            reason=reason,
        )

    def mark_next(self, run_id: str, next_id: str) -> None:
        """The run that goes on for one which is to be cancelled is to be cancelled too, for the same reason."""
        self._execute(
            "UPDATE flows_runs SET finish_by = {now}, reason = (SELECT o.reason FROM flows_runs o WHERE o.id = :run) "
            "WHERE id = :next AND status IN ('scheduled', 'queued') AND EXISTS (SELECT 1 FROM flows_runs o "
            "WHERE o.id = :run AND o.finish_by IS NOT NULL AND o.reason IS NOT NULL)",
            run=run_id,
            next=next_id,
        )

    def prune(self, after: str, limit: int = 1000) -> str | None:
        """Forget the keys of runs that have ended, in a transaction; where to go on, None at the end."""
        rows = self._execute(
            "SELECT key FROM flows_singletons WHERE key > :after ORDER BY key LIMIT :most {lock_what_is_free}",
            after=after,
            most=limit,
        )
        keys: Sequence[str] = [row[0] for row in rows]
        if keys:
            # A later statement than the lock: it sees the run of a key that was taken anew meanwhile.
            self._execute(
                "DELETE FROM flows_singletons WHERE key {in_texts:keys} AND NOT EXISTS (SELECT 1 FROM flows_runs r "
                "WHERE r.id = flows_singletons.run_id "
                "AND r.status IN ('scheduled', 'queued', 'running', 'suspended'))",
                keys=self._array(keys),
            )
        return keys[-1] if len(keys) == limit else None
