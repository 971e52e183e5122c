"""Keys that count once within a window: event ids that a sender gave."""

from celeryflows.store.executor import Verbs


class Once(Verbs):
    """The verbs of once-keys; lock class 2, so take them sorted."""

    def take(self, key: str, run_id: str, window: int) -> bool:
        """True for the first within `window` microseconds; a second one waits for the first one's commit."""
        return bool(
            self._execute(
                "INSERT INTO flows_once (key, run_id, expires_at) VALUES (:key, :run, {now} + :window) "
                "ON CONFLICT (key) DO UPDATE SET run_id = excluded.run_id, expires_at = excluded.expires_at "
                "WHERE flows_once.expires_at <= {now} RETURNING key",
                key=key,
                run=run_id,
                window=window,
            )
        )

    def holder(self, key: str) -> str | None:
        """The run that took the key."""
        rows = self._execute("SELECT run_id FROM flows_once WHERE key = :key", key=key)
        return rows[0][0] if rows else None

    def point(self, key: str, run_id: str) -> None:
        """A key that this transaction took belongs to another run: the one that its event ended up in."""
        self._execute("UPDATE flows_once SET run_id = :run WHERE key = :key", key=key, run=run_id)

    def give_back(self, key: str, run_id: str) -> None:
        """A key that this transaction took is free again: its run is not to be."""
        self._execute("DELETE FROM flows_once WHERE key = :key AND run_id = :run", key=key, run=run_id)

    def prune(self, limit: int = 1000) -> int:
        """Forget keys whose window is over."""
        return len(
            self._execute(
                "WITH old AS {materialized} (SELECT key FROM flows_once WHERE expires_at <= {by_now} "
                "ORDER BY expires_at LIMIT :most {lock_what_is_free}) "
                "DELETE FROM flows_once WHERE key IN (SELECT key FROM old) RETURNING key",
                most=limit,
            )
        )
