"""Many who enter many gates at once: their locks in one statement, their slots in the next.

On databases with advisory locks; one writer goes from gate to gate without a round trip."""

from collections.abc import Sequence

from celeryflows.ids import hash64
from celeryflows.store.branches import Unit
from celeryflows.store.executor import Verbs

# In the order of the arrays, which are sorted by gate.
LOCK = """
SELECT CAST(CASE WHEN alone THEN pg_advisory_xact_lock(key) ELSE pg_advisory_xact_lock_shared(key) END AS text)
FROM unnest(CAST(:keys AS bigint[]), CAST(:alone AS boolean[])) AS gate (key, alone)
"""
# Materialized: what is looked for again while slots are taken would find the next one of the same gate, and take both.
TAKE = """
WITH found AS MATERIALIZED (
  SELECT asked.gate, asked.run_id, asked.branch, free.no
  FROM unnest(CAST(:gates AS text[]), CAST(:most AS bigint[]), CAST(:runs AS text[]), CAST(:branches AS text[]))
    AS asked (gate, most, run_id, branch)
  CROSS JOIN LATERAL (SELECT s.no FROM flows_slots s
    WHERE s.gate = asked.gate AND s.no <= asked.most AND s.run_id IS NULL
    AND NOT EXISTS (SELECT 1 FROM flows_slots o WHERE o.gate = asked.gate AND o.no > asked.most
      AND o.run_id IS NOT NULL)
    ORDER BY s.no LIMIT 1 {lock_what_is_free}) AS free)
UPDATE flows_slots SET run_id = found.run_id, branch = found.branch FROM found
WHERE flows_slots.gate = found.gate AND flows_slots.no = found.no RETURNING flows_slots.gate, flows_slots.no
"""


class Entries(Verbs):
    """The verbs of entering together. Lock class 6."""

    def lock(self, gates: Sequence[tuple[str, bool]]) -> None:
        """Lock gates, alone where it says so, else beside others who share them; `undo` gives all of them back."""
        ordered = sorted(gates)
        self._execute("SAVEPOINT celeryflows_gates")
        self._execute(LOCK, keys=[hash64(gate) for gate, _ in ordered], alone=[alone for _, alone in ordered])

    def take(self, asked: Sequence[tuple[str, int, Unit]]) -> dict[str, int]:
        """A free slot of each gate that has one, for the unit that asks there: its number by gate."""
        rows = self._execute(
            TAKE,
            gates=[gate for gate, _, _ in asked],
            most=[most for _, most, _ in asked],
            runs=[unit[0] for _, _, unit in asked],
            branches=[unit[1] for _, _, unit in asked],
        )
        return dict(rows)

    def undo(self) -> None:
        """Back to before the locks."""
        self._connection.back_to("celeryflows_gates")
