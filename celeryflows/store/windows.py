"""Scheduled runs that a limit keeps: what goes into them, and how their time comes."""

from dataclasses import dataclass

from celeryflows.store.executor import Verbs
from celeryflows.store.links import Link


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A run whose time has come, and what it starts with. `expires_at`: the call's own bound."""

    id: str
    flow: str
    event_id: str
    version: str | None
    message: str | None
    parent: str | None
    parent_key: str | None
    created_at: int
    batch: int | None
    wake_at: int | None
    held_at: str | None


_FIELDS = "id, flow, event_id, version, message, parent, parent_key, created_at, batch, wake_at, held_at"


class Windows(Verbs):
    """The verbs of scheduled runs; lock class 8. Each changes one that is still scheduled, else it says False."""

    def scheduled(self, run_ids: list[str]) -> list[Scheduled]:
        """Those of the runs that are scheduled, by id; no lock."""
        rows = self._execute(
            f"SELECT {_FIELDS} FROM flows_runs WHERE id {{in_texts:ids}} AND status = 'scheduled' ORDER BY id",
            ids=self._array(sorted(run_ids)),
        )
        return [Scheduled(*row) for row in rows]

    def next_close(self) -> int | None:
        """The next moment at which a debounce or a batch closes."""
        rows = self._execute(
            "SELECT min(at) FROM (SELECT min(fire_at) AS at FROM flows_debounces "
            "UNION ALL SELECT min(deadline) FROM flows_batches) AS closes"
        )
        return rows[0][0]  # type: ignore[no-any-return]

    def put_event(self, run_id: str, event_id: str) -> bool:
        """The run starts with this event instead."""
        return bool(
            self._execute(
                "UPDATE flows_runs SET event_id = :event WHERE id = :run AND status = 'scheduled' RETURNING id",
                run=run_id,
                event=event_id,
            )
        )

    def owe(self, run_id: str, link: Link) -> bool:
        """Somebody waits for the run's value: its end will be told."""
        return bool(
            self._execute(
                "UPDATE flows_runs SET parent = COALESCE(parent, :parent), parent_key = COALESCE(parent_key, :key) "
                "WHERE id = :run AND status = 'scheduled' RETURNING id",
                run=run_id,
                parent=link.parent,
                key=link.parent_key,
            )
        )

    def let_go(self, run_id: str, window: str, door: str | None, within: int | None) -> bool:
        """A window closed: the run is due, at its event's own moment at the earliest; a batch's is counted. `door` is
        where it is held from now on; `within`: how long it may take to start from then."""
        due = (
            "CASE WHEN batch IS NULL THEN {greatest}({now}, (SELECT e.ts FROM flows_events e "
            "WHERE e.id = flows_runs.event_id)) ELSE {now} END"
        )
        return bool(
            self._execute(
                f"UPDATE flows_runs SET held_at = :door, wake_at = {due}, "
                f"expires_at = COALESCE(expires_at, {due} + CAST(:within AS bigint)), "
                "batch = CASE WHEN batch IS NULL THEN NULL ELSE (SELECT count(*) FROM flows_batch_events b "
                "WHERE b.run_id = flows_runs.id AND b.no >= 0) END "
                "WHERE id = :run AND status = 'scheduled' AND held_at = :held RETURNING id",
                run=run_id,
                held=window,
                door=door,
                within=within,
            )
        )

    def put_gates(self, run_id: str, g1: str | None, g2: str | None, priority: int | None) -> None:
        """The gates of the event that a run starts with after all."""
        self._execute(
            "UPDATE flows_runs SET g1 = :one, g2 = :two, priority = :priority WHERE id = :run AND status = 'scheduled'",
            run=run_id,
            one=g1,
            two=g2,
            priority=priority,
        )

    def begin_batch(self, run_id: str, window: str, held: str) -> bool:
        """A window closed: the run gathers events, of which it has one, and is held there from now on."""
        return bool(
            self._execute(
                "UPDATE flows_runs SET held_at = :held, batch = 1 "
                "WHERE id = :run AND status = 'scheduled' AND held_at = :window RETURNING id",
                run=run_id,
                window=window,
                held=held,
            )
        )

    def join(self, run_id: str, window: str, other: str, reason: str) -> bool:
        """scheduled -> skipped: a window closed, and another run goes on for this one, and owes what this one did."""
        return bool(
            self._execute(
                "UPDATE flows_runs SET status = 'skipped', reason = :reason, continued_as = :other, ended_at = {now}, "
                "wake_at = NULL, expires_at = NULL, held_at = NULL "
                "WHERE id = :run AND status = 'scheduled' AND held_at = :window RETURNING id",
                run=run_id,
                window=window,
                other=other,
                reason=reason,
            )
        )

    def skip(self, run_id: str, reason: str) -> bool:
        """scheduled -> skipped."""
        return bool(
            self._execute(
                "UPDATE flows_runs SET status = 'skipped', reason = :reason, ended_at = {now}, wake_at = NULL, "
                "expires_at = NULL, held_at = NULL, owes = CASE WHEN parent IS NOT NULL THEN 'end' END "
                "WHERE id = :run AND status = 'scheduled' RETURNING id",
                run=run_id,
                reason=reason,
            )
        )
