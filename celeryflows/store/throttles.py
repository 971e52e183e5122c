"""Meters of throttles: when the next start of a line is due. Lock class 3: who joins or shortens a line holds one."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from celeryflows.store.executor import Verbs

KIND = "throttle"


@dataclass(frozen=True, slots=True)
class Meter:
    """A meter; `next_at` is when the leader looks at its line, None while nobody waits."""

    key: str
    flow: str
    tat: int
    next_at: int | None


class Throttles(Verbs):
    """The verbs of throttles."""

    def hold(self, meters: Iterable[tuple[str, str, str | None]]) -> None:
        """Lock meters, sorted, making those that are missing; each with its flow and its key's value."""
        # One statement makes or locks: between two of them the leader may forget a meter that stands idle.
        sql = (
            "INSERT INTO flows_meters (key, flow, kind, value, tat) VALUES (:key, :flow, 'throttle', :value, 0) "
            "ON CONFLICT (key) DO UPDATE SET key = excluded.key"
        )
        rows = sorted(set(meters))
        self._many(sql, [{"key": key, "flow": flow, "value": value} for key, flow, value in rows])

    def get(self, key: str) -> Meter | None:
        """A locked meter."""
        rows = self._execute("SELECT key, flow, tat, next_at FROM flows_meters WHERE key = :key", key=key)
        return Meter(*rows[0]) if rows else None

    def set(self, key: str, tat: int, next_at: int | None) -> None:
        """Write a locked meter."""
        self._execute(
            "UPDATE flows_meters SET tat = :tat, next_at = :next WHERE key = :key", key=key, tat=tat, next=next_at
        )

    def due(self, limit: int = 200) -> list[Meter]:
        """Lines whose next start is due, the longest first."""
        rows = self._execute(
            "SELECT key, flow, tat, next_at FROM flows_meters WHERE next_at <= {by_now} ORDER BY next_at LIMIT :most",
            most=limit,
        )
        return [Meter(*row) for row in rows]

    def next_due(self) -> int | None:
        """When the next start of any line is due."""
        return self._execute("SELECT min(next_at) FROM flows_meters WHERE next_at IS NOT NULL")[0][0]  # type: ignore[no-any-return]

    def look_again(self, flows: Sequence[str]) -> None:
        """The rates of these flows have changed: the leader looks at their lines at once."""
        self._execute(
            "UPDATE flows_meters SET next_at = {now} WHERE flow {in_texts:flows} AND next_at IS NOT NULL",
            flows=self._array(sorted(flows)),
        )

    def wake(self, key: str) -> None:
        """A line that nobody looks at any more."""
        self._execute("UPDATE flows_meters SET next_at = {now} WHERE key = :key AND next_at IS NULL", key=key)

    def forget_idle(self, limit: int = 1000) -> int:
        """Drop meters that bound nobody any more."""
        return len(
            self._execute(
                "DELETE FROM flows_meters WHERE key IN (SELECT key FROM flows_meters WHERE kind = 'throttle' "
                "AND next_at IS NULL AND tat < {now} - 3600000000 LIMIT :most) AND next_at IS NULL "
                "AND tat < {now} - 3600000000 RETURNING key",
                most=limit,
            )
        )
