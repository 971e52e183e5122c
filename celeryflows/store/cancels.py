"""What runs wait for to be cancelled: rows among the waits that no step owns, found by arriving events as all are."""

from collections.abc import Sequence

from celeryflows.ids import derived_id
from celeryflows.model.cancels import CancelWait
from celeryflows.model.events import StoredEvent
from celeryflows.model.waits import CANCEL, OpenWait, match_hash
from celeryflows.store.events import COLUMNS, read_event
from celeryflows.store.executor import Verbs

ARM = """
INSERT INTO flows_waits (id, run_id, key, kind, name, path, hash, value, if_exp, began, armed_at,
  state, due_at, problem)
VALUES (:id, :run, :key, 'cancel', :name, :path, :hash, :value, :if_exp, {now}, {now},
  CASE WHEN CAST(:problem AS text) IS NULL THEN 'open' ELSE 'closed' END, {now} + CAST(:timeout AS bigint), :problem)
ON CONFLICT (run_id, key) DO NOTHING
"""

# By their place among arrivals, so that the next page goes on after the last one. Only what was sent after the run's
# own event: an event before the run never cancels.
SINCE = f"""
SELECT {", ".join(f"e.{column}" for column in COLUMNS.split(", "))}, e.arrived_at
FROM flows_events e, flows_events t
WHERE t.id = :trigger AND e.name = :name AND e.arrived_at >= t.stored_at AND e.id <> t.id
AND (e.stored_at > t.stored_at OR (e.stored_at = t.stored_at AND e.id > t.id))
AND (e.arrived_at > :at OR (e.arrived_at = :at AND e.id > :after))
AND (CAST(:holding AS text) IS NULL OR {{position}}(e.data, CAST(:holding AS text)) > 0)
ORDER BY e.arrived_at, e.id LIMIT :most
"""


class Cancels(Verbs):
    """The verbs of cancel waits."""

    def arm(self, run_id: str, waits: Sequence[CancelWait], trigger: StoredEvent) -> list[OpenWait]:
        """Open a new run's; one with a problem is written closed. Those that are open."""
        sealer = self._connection.sealer
        rows = [
            {
                "id": derived_id("wait", run_id, wait.key),
                "run": run_id,
                "hash": (sealer.mark if sealer is not None else int)(match_hash(wait.name, wait.path, wait.value)),
                **{name: getattr(wait, name) for name in wait.__slots__},
            }
            for wait in waits
        ]
        self._many(ARM, rows)
        return [
            OpenWait(row["id"], run_id, w.key, w.name, w.path, w.value, w.if_exp, trigger, CANCEL, trigger.id)
            for row, w in zip(rows, waits, strict=True)
            if w.problem is None
        ]

    def disarm(self, run_id: str) -> None:
        """A run that waits for its start forgets what cancels it: it starts with another event."""
        self._execute("DELETE FROM flows_waits WHERE run_id = :run AND kind = 'cancel'", run=run_id)

    def sent_since(
        self, trigger_id: str, name: str, *, after: tuple[int, str], holding: str | None, limit: int
    ) -> list[tuple[StoredEvent, int]]:
        """Events of the name that were sent after the run's own was, in order of arrival, each with that moment.

        `holding`: only those whose data has this piece of JSON somewhere, where the database can tell.
        """
        holding = holding if self._connection.sealer is None else None
        rows = self._execute(
            SINCE, trigger=trigger_id, name=name, at=after[0], after=after[1], holding=holding, most=limit
        )
        return [(read_event(row[:6]), row[6]) for row in rows]

    def lock_waits(self, wait_ids: Sequence[str], run_ids: Sequence[str]) -> None:
        """Take these waits and all of these runs, in one order, after their runs (lock class 5)."""
        if self._connection.dialect.has_row_locks:
            self._execute(
                "SELECT id FROM flows_waits WHERE id {in_texts:ids} OR run_id {in_texts:runs} ORDER BY id {lock}",
                ids=self._array(wait_ids),
                runs=self._array(run_ids),
            )

    def close_all(self, run_ids: Sequence[str]) -> None:
        """Close all that cancelled runs wait for."""
        self._execute(
            "WITH mine AS {materialized} (SELECT id FROM flows_waits WHERE run_id {in_texts:runs} AND state = 'open' "
            "ORDER BY id {lock}) UPDATE flows_waits SET state = 'closed' WHERE id IN (SELECT id FROM mine)",
            runs=self._array(run_ids),
        )
