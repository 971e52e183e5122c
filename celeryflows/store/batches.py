"""Batches: what gathers, one row for each key, counting while its run is scheduled; and the events of their runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from celeryflows.model.events import StoredEvent
from celeryflows.store.events import COLUMNS, read_event
from celeryflows.store.executor import Verbs
from celeryflows.store.links import Link


@dataclass(frozen=True, slots=True)
class BatchRow:
    """What gathers under a key."""

    run_id: str
    n: int
    bytes: int


class Batches(Verbs):
    """The verbs of batches; lock class 4, after debounces, so take them sorted."""

    def take(self, key: str, run_id: str, timeout: int) -> BatchRow:
        """Lock the key's row, made empty for this run if there is none."""
        rows = self._execute(
            "INSERT INTO flows_batches (key, run_id, n, bytes, deadline) VALUES (:key, :run, 0, 0, {now} + :timeout) "
            "ON CONFLICT (key) DO UPDATE SET key = excluded.key RETURNING run_id, n, bytes",
            key=key,
            run=run_id,
            timeout=timeout,
        )
        return BatchRow(*rows[0])

    def begin(self, key: str, run_id: str, timeout: int) -> None:
        """A locked row begins anew, empty, for this run."""
        self._execute(
            "UPDATE flows_batches SET run_id = :run, n = 0, bytes = 0, deadline = {now} + :timeout WHERE key = :key",
            key=key,
            run=run_id,
            timeout=timeout,
        )

    def grow(self, key: str, size: int) -> None:
        """One more event in a locked row."""
        self._execute("UPDATE flows_batches SET n = n + 1, bytes = bytes + :size WHERE key = :key", key=key, size=size)

    def end(self, key: str) -> None:
        """A locked row goes: it is full."""
        self._execute("DELETE FROM flows_batches WHERE key = :key", key=key)

    def due(self, limit: int = 200) -> Sequence[tuple[str, str]]:
        """Keys and runs whose time is over, the longest due first. No lock: `fire` decides."""
        return self._execute(
            "SELECT key, run_id FROM flows_batches WHERE deadline <= {by_now} ORDER BY deadline LIMIT :most", most=limit
        )

    def fire(self, key: str, run_id: str) -> bool:
        """Take the row away; False when it was full, or another did."""
        return bool(
            self._execute(
                "DELETE FROM flows_batches WHERE key = :key AND run_id = :run AND deadline <= {now} RETURNING key",
                key=key,
                run=run_id,
            )
        )

    # -- the events that went into a run

    def add_event(self, run_id: str, event_id: str, no: int, link: Link | None = None) -> None:
        """An event goes into a run, whose caller waits for its value if there is one; twice is once."""
        self._execute(
            "INSERT INTO flows_batch_events (run_id, event_id, no, parent, parent_key) "
            "VALUES (:run, :event, :no, :parent, :parent_key) ON CONFLICT (run_id, event_id) DO NOTHING",
            run=run_id,
            event=event_id,
            no=no,
            parent=link.parent if link is not None else None,
            parent_key=link.parent_key if link is not None else None,
        )

    def caller(self, run_id: str, event_id: str) -> Link | None:
        """Who waits for the run by this event."""
        rows = self._execute(
            "SELECT parent, parent_key FROM flows_batch_events "
            "WHERE run_id = :run AND event_id = :event AND parent IS NOT NULL",
            run=run_id,
            event=event_id,
        )
        return Link(*rows[0]) if rows else None

    def keep_only(self, run_id: str, event_id: str) -> None:
        """Of the events that went into a run this one is the first of its batch; it took the place of the others."""
        self._execute(
            "UPDATE flows_batch_events SET no = CASE WHEN event_id = :event THEN 0 ELSE -1 END WHERE run_id = :run",
            run=run_id,
            event=event_id,
        )

    def take_over(self, run_id: str, into: str) -> None:
        """What went into a run is in another too: the event that is there already, and those whose place it took."""
        self._execute(
            "INSERT INTO flows_batch_events (run_id, event_id, no, parent, parent_key) "
            "SELECT CAST(:into AS varchar), event_id, -1, parent, parent_key "
            "FROM flows_batch_events WHERE run_id = :run ON CONFLICT (run_id, event_id) DO NOTHING",
            run=run_id,
            into=into,
        )

    def events(self, run_id: str) -> list[StoredEvent]:
        """The events of a batch's run in the order in which they came."""
        columns = ", ".join(f"e.{column}" for column in COLUMNS.split(", "))
        rows = self._execute(
            f"SELECT {columns} FROM flows_batch_events b JOIN flows_events e ON e.id = b.event_id "
            "WHERE b.run_id = :run AND b.no >= 0 ORDER BY b.no, e.id",
            run=run_id,
        )
        return [read_event(row) for row in rows]

    def callers(self, run_id: str) -> list[Link]:
        """Who waits for the run by the events that went into it."""
        rows = self._execute(
            "SELECT parent, parent_key FROM flows_batch_events WHERE run_id = :run AND parent IS NOT NULL "
            "ORDER BY parent, parent_key",
            run=run_id,
        )
        return [Link(*row) for row in rows]

    def copy_all(self, pairs: Sequence[tuple[str, str]]) -> None:
        """As `copy`, for each origin and its rerun of those that a batch made."""
        rows = self._execute(
            "SELECT id FROM flows_runs WHERE id {in_texts:ids} AND batch IS NOT NULL",
            ids=self._array([origin for origin, _ in pairs]),
        )
        batches = {row[0] for row in rows}
        for origin, run_id in pairs:
            if origin in batches:
                self.copy(origin, run_id)

    def copy(self, origin: str, run_id: str) -> None:
        """A rerun has the events of the run that it repeats."""
        self._execute(
            "INSERT INTO flows_batch_events (run_id, event_id, no) SELECT CAST(:run AS varchar), event_id, no "
            "FROM flows_batch_events WHERE run_id = :origin AND no >= 0 ON CONFLICT (run_id, event_id) DO NOTHING",
            run=run_id,
            origin=origin,
        )
