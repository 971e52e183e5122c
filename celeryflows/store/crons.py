"""Cron triggers: the next due time of each. The compare-and-set on it is what makes a fire happen once."""

from collections.abc import Sequence
from dataclasses import dataclass

from celeryflows.durations import MINUTE
from celeryflows.store.executor import Verbs

# Whoever is so late has missed it: each minute has at most one.
LATE = MINUTE


@dataclass(frozen=True, slots=True)
class CronRow:
    """A cron trigger; `definition` is the trigger as JSON."""

    flow: str
    trigger_no: int
    def_hash: str
    definition: str
    next_at: int | None


class Crons(Verbs):
    """The verbs of cron triggers."""

    def due(self, limit: int = 200) -> list[CronRow]:
        """Those whose time has come."""
        rows = self._execute(
            "SELECT flow, trigger_no, def_hash, definition, next_at FROM flows_crons WHERE next_at <= {by_now} "
            "ORDER BY next_at LIMIT :most",
            most=limit,
        )
        return [CronRow(*row) for row in rows]

    def advance(self, row: CronRow, next_at: int) -> bool:
        """Go on to the next due time, and keep when nobody was there; False when another fired it or the definition
        changed."""
        return bool(
            self._execute(
                # MariaDB assigns from the left: what asks for the old time comes first.
                f"UPDATE flows_crons SET missed_due = CASE WHEN {{now}} - next_at >= {LATE} THEN next_at "
                f"ELSE missed_due END, missed_seen = CASE WHEN {{now}} - next_at >= {LATE} THEN {{now}} "
                "ELSE missed_seen END, next_at = :next "
                "WHERE flow = :flow AND trigger_no = :no AND next_at = :due AND def_hash = :hash RETURNING flow",
                next=next_at,
                flow=row.flow,
                no=row.trigger_no,
                due=row.next_at,
                hash=row.def_hash,
            )
        )

    def of(self, flows: Sequence[str]) -> list[CronRow]:
        """All rows of these flows."""
        rows = self._execute(
            "SELECT flow, trigger_no, def_hash, definition, next_at FROM flows_crons WHERE flow {in_texts:flows} "
            "ORDER BY flow, trigger_no",
            flows=self._array(flows),
        )
        return [CronRow(*row) for row in rows]

    def all(self) -> list[CronRow]:
        """Every row, by flow."""
        rows = self._execute(
            "SELECT flow, trigger_no, def_hash, definition, next_at FROM flows_crons ORDER BY flow, trigger_no"
        )
        return [CronRow(*row) for row in rows]

    def put(self, row: CronRow) -> None:
        """Set a trigger anew; one whose definition is as before keeps its due time."""
        self._execute(
            "INSERT INTO flows_crons (flow, trigger_no, def_hash, definition, next_at) "
            "VALUES (:flow, :no, :hash, :text, :next) ON CONFLICT (flow, trigger_no) DO UPDATE "
            "SET def_hash = excluded.def_hash, definition = excluded.definition, next_at = excluded.next_at "
            "WHERE flows_crons.def_hash <> excluded.def_hash",
            flow=row.flow,
            no=row.trigger_no,
            hash=row.def_hash,
            text=row.definition,
            next=row.next_at,
        )

    def remove(self, flow: str, trigger_no: int) -> None:
        """A trigger that is no more."""
        self._execute("DELETE FROM flows_crons WHERE flow = :flow AND trigger_no = :no", flow=flow, no=trigger_no)
