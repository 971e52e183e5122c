"""Debounces: what waits for quiet, one row for each key. It counts while its run is scheduled."""

from collections.abc import Sequence
from dataclasses import dataclass

from celeryflows.store.executor import Verbs


@dataclass(frozen=True, slots=True)
class DebounceRow:
    """What waits under a key. `now`: the store's clock when its row was locked."""

    run_id: str
    ts: int
    fire_at: int
    deadline: int | None
    now: int


class Debounces(Verbs):
    """The verbs of debounces; lock class 4, so take them sorted."""

    def take(self, key: str, run_id: str, ts: int, *, period: int, timeout: int | None) -> DebounceRow:
        """Lock the key's row, made for this run if there is none; times in microseconds, the timeout from now."""
        rows = self._execute(
            "INSERT INTO flows_debounces (key, run_id, ts, fire_at, deadline) VALUES (:key, :run, :ts, "
            "{now} + :period, {now} + CAST(:timeout AS bigint)) "
            "ON CONFLICT (key) DO UPDATE SET key = excluded.key RETURNING run_id, ts, fire_at, deadline, {now}",
            key=key,
            run=run_id,
            ts=ts,
            period=period,
            timeout=timeout,
        )
        return DebounceRow(*rows[0])

    def put(self, key: str, row: DebounceRow) -> None:
        """Write a locked row anew."""
        self._execute(
            "UPDATE flows_debounces SET run_id = :run, ts = :ts, fire_at = :fire_at, deadline = :deadline "
            "WHERE key = :key",
            key=key,
            run=row.run_id,
            ts=row.ts,
            fire_at=row.fire_at,
            deadline=row.deadline,
        )

    def due(self, limit: int = 200) -> Sequence[tuple[str, str]]:
        """Keys and runs whose quiet has lasted, the longest due first. No lock: `fire` decides."""
        return self._execute(
            "SELECT key, run_id FROM flows_debounces WHERE fire_at <= {by_now} ORDER BY fire_at LIMIT :most", most=limit
        )

    def fire(self, key: str, run_id: str) -> bool:
        """Take the row away; False when it was put off, or another did. Who waited for the row opens a new one."""
        return bool(
            self._execute(
                "DELETE FROM flows_debounces WHERE key = :key AND run_id = :run AND fire_at <= {now} RETURNING key",
                key=key,
                run=run_id,
            )
        )
