"""Limits over time: what is held and waited for now, counted by the leader once a minute, bounded in rows and time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from celeryflows.store.executor import Verbs

# What is held or waits is counted up to here: above, the exact number tells nobody more.
MOST = 100_000
_GATES = f"""
SELECT limit_id, sum(used), sum(waiting), count(*), max(used) FROM (
  SELECT g.limit_id AS limit_id, sum(both_.used) AS used, sum(both_.waiting) AS waiting FROM (
    SELECT gate, count(*) AS used, 0 AS waiting FROM
      (SELECT gate FROM flows_slots WHERE run_id IS NOT NULL LIMIT {MOST}) held GROUP BY gate
    UNION ALL SELECT gate, 0, count(*) FROM (SELECT gate FROM flows_queue LIMIT {MOST}) line GROUP BY gate
  ) both_ JOIN flows_gates g ON g.key = both_.gate GROUP BY g.limit_id, g.key
) by_gate GROUP BY limit_id
"""
_THROTTLES = f"""
SELECT m.flow, count(*), count(DISTINCT m.key) FROM (SELECT gate FROM flows_queue LIMIT {MOST}) line
JOIN flows_meters m ON m.key = line.gate GROUP BY m.flow
"""


@dataclass(frozen=True, slots=True)
class LimitUse:
    """A limit that somebody holds or waits for, all values of its key together; see the table."""

    limit_id: str
    used: int
    waiting: int
    gates: int
    fullest: int


class LimitUses(Verbs):
    """The verbs of limits over time."""

    def now(self) -> list[LimitUse]:
        """Concurrency limits as they stand."""
        return [LimitUse(row[0], *(int(n) for n in row[1:])) for row in self._execute(_GATES)]

    def throttled(self) -> dict[str, tuple[int, int]]:
        """By flow: how many wait for its throttle, and for how many values of its key."""
        return {row[0]: (row[1], row[2]) for row in self._execute(_THROTTLES)}

    def put(self, at: int, found: Sequence[LimitUse], capacities: Mapping[str, int]) -> None:
        """Keep them as they stand at a moment."""
        for one in found:
            self._execute(
                "INSERT INTO flows_limit_uses (limit_id, at, used, waiting, gates, fullest, capacity) "
                "VALUES (:limit, :at, :used, :waiting, :gates, :fullest, :capacity) "
                "ON CONFLICT (limit_id, at) DO NOTHING",
                limit=one.limit_id,
                at=at,
                used=one.used,
                waiting=one.waiting,
                gates=one.gates,
                fullest=one.fullest,
                capacity=capacities.get(one.limit_id),
            )

    def forget(self, before: int) -> None:
        """Delete what is older."""
        self._execute("DELETE FROM flows_limit_uses WHERE at < :before", before=before)
