"""Meters: when the next start is due by a rate (GCRA), one row for each limit and value of its key."""

from dataclasses import dataclass

from celeryflows.store.executor import Verbs

TAKE = """
INSERT INTO flows_meters (key, flow, kind, value, tat) VALUES (:key, :flow, :kind, :value, {now} + :interval)
ON CONFLICT (key) DO UPDATE SET tat = {greatest}(flows_meters.tat, {now}) + :interval
WHERE flows_meters.tat - :tolerance <= {now} RETURNING tat
"""


@dataclass(frozen=True, slots=True)
class Meter:
    """Whose meter it is: `kind` names the option, `value` is that of its key as canonical JSON."""

    key: str
    flow: str
    kind: str
    value: str | None


class Meters(Verbs):
    """The verbs of meters; lock class 3, so take them sorted."""

    def take(self, meter: Meter, interval: int, tolerance: int) -> bool:
        """Pass, and move the meter on; False when it is too early by more than the tolerance. In microseconds.

        One statement: who comes second waits for the first one's commit and then sees it.
        """
        return bool(
            self._execute(
                TAKE,
                key=meter.key,
                flow=meter.flow,
                kind=meter.kind,
                value=meter.value,
                interval=interval,
                tolerance=tolerance,
            )
        )

    def tat(self, key: str) -> int | None:
        """When the start after all that passed is due; None for a meter that nobody asked."""
        rows = self._execute("SELECT tat FROM flows_meters WHERE key = :key", key=key)
        return rows[0][0] if rows else None

    def prune(self, after: str, limit: int = 1000) -> str | None:
        """Forget meters that stand as if nobody had asked, and have no line; where to go on, None at the end."""
        rows = self._execute(
            "SELECT key, tat FROM flows_meters WHERE key > :after ORDER BY key LIMIT :most", after=after, most=limit
        )
        keys = [row[0] for row in rows]
        if keys:
            self._execute(
                "DELETE FROM flows_meters WHERE key IN (SELECT key FROM flows_meters WHERE key {in_texts:keys} "
                "AND tat <= {now} AND next_at IS NULL {lock_what_is_free})",
                keys=self._array(keys),
            )
        return keys[-1] if len(keys) == limit else None
