"""Events: stored once under our id; `arrived_at` is when they were routed, NULL until then."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celeryflows.codec import loads
from celeryflows.errors import BoundExceeded
from celeryflows.model.events import StoredEvent
from celeryflows.store.executor import Verbs

COLUMNS = "id, ext_id, name, data, ts, v"
INSERT = (
    "INSERT INTO flows_events (id, ext_id, name, data, ts, v, stored_at, arrived_at, piece) "
    "VALUES (:id, :ext_id, :name, :data, :ts, :v, {now}, %s, :piece) ON CONFLICT (id) DO NOTHING"
)
NUMBERS = frozenset({"ts"})
INSERT_ROUTED = INSERT % "{now}"
INSERT_UNROUTED = INSERT % "NULL"
# One run's own: it never arrived for those that look back.
INSERT_PRIVATE = INSERT % "0"
ARRIVALS = (
    f"SELECT {COLUMNS}, arrived_at FROM flows_events WHERE name = :name AND arrived_at >= :since "
    "AND (arrived_at > :at OR (arrived_at = :at AND id > :after)) "
    "AND (CAST(:holding AS text) IS NULL OR {position}(data, CAST(:holding AS text)) > 0) "
    "AND id <> (SELECT event_id FROM flows_runs WHERE id = :run) "
    "AND NOT EXISTS (SELECT 1 FROM flows_waits w WHERE w.run_id = :run AND w.event_id = flows_events.id) "
    "ORDER BY arrived_at, id LIMIT :most"
)
SEALED_LOOK = 20_000


def read_event(row: Sequence[Any]) -> StoredEvent:
    """An event of the six columns."""
    return StoredEvent(row[0], row[1], row[2], row[3], loads(row[3]), row[4], row[5])


def event_row(event: StoredEvent, piece: str | None = None) -> dict[str, Any]:
    """The parameters of an insert."""
    return {
        "id": event.id,
        "ext_id": event.ext_id,
        "name": event.name,
        "data": event.text,
        "ts": event.ts,
        "v": event.v,
        "piece": piece,
    }


@dataclass(frozen=True, slots=True)
class Unrouted:
    """An event that recovery has to route: not at all yet, or from a piece on."""

    id: str
    piece: str | None


class Events(Verbs):
    """The verbs of events."""

    def add(self, events: Iterable[StoredEvent], pieces: Mapping[str, str] | None = None) -> None:
        """Store events as arrived now. An id that is there already is left as it is."""
        pieces = pieces or {}
        self._insert(INSERT_ROUTED, [event_row(e, pieces.get(e.id)) for e in events], NUMBERS)

    def add_new(self, event: StoredEvent, piece: str | None = None) -> bool:
        """Store an event as arrived now; False when it is there, once the transaction that stores it has committed."""
        return bool(self._execute(INSERT_ROUTED + " RETURNING id", **event_row(event, piece)))

    def add_telling(self, event: StoredEvent) -> str | None:
        """Store an event as arrived now; the version of the declared flows, None when the event was there before."""
        rows = self._execute(
            INSERT_ROUTED + " RETURNING COALESCE((SELECT value FROM flows_meta WHERE key = 'flows_version'), '0')",
            **event_row(event),
        )
        return rows[0][0] if rows else None

    def many(self, event_ids: Iterable[str]) -> dict[str, StoredEvent]:
        """Events by their ids."""
        rows = self._execute(
            f"SELECT {COLUMNS} FROM flows_events WHERE id {{in_texts:ids}}", ids=self._array(sorted(set(event_ids)))
        )
        return {row[0]: read_event(row) for row in rows}

    def add_unrouted(self, events: Iterable[StoredEvent]) -> None:
        """Store events that are routed after this transaction."""
        self._insert(INSERT_UNROUTED, [event_row(e) for e in events], NUMBERS)

    def add_private(self, event: StoredEvent) -> None:
        """Store what one run is started with; it starts and answers no others."""
        self._insert(INSERT_PRIVATE, [event_row(event)], NUMBERS)

    def get(self, event_id: str) -> StoredEvent | None:
        """One event, None when it is not there."""
        rows = self._execute(f"SELECT {COLUMNS} FROM flows_events WHERE id = :id", id=event_id)
        return read_event(rows[0]) if rows else None

    def hold(self, event_id: str) -> bool:
        """Lock an old event so that retention leaves it; False when it is gone. One writer needs no lock."""
        if not self._connection.dialect.has_row_locks:
            return True
        return bool(self._execute("SELECT id FROM flows_events WHERE id = :id {share}", id=event_id))

    def unrouted(self, older_than: int, limit: int = 200) -> list[Unrouted]:
        """Events left unrouted or half routed, oldest first; `older_than` microseconds, to leave those under way."""
        rows = self._execute(
            "SELECT id, piece FROM flows_events WHERE {unrouted} <= {by_now} - :age ORDER BY {by_unrouted} LIMIT :most",
            age=older_than,
            most=limit,
        )
        return [Unrouted(*row) for row in rows]

    def arrive(self, event_id: str, piece: str | None) -> bool:
        """Mark as arrived; False when somebody routed it before. The winner routes it in the same transaction."""
        return bool(
            self._execute(
                "UPDATE flows_events SET arrived_at = {now}, piece = :piece "
                "WHERE id = :id AND arrived_at IS NULL RETURNING id",
                id=event_id,
                piece=piece,
            )
        )

    def move_piece(self, event_id: str, old: str, new: str | None) -> bool:
        """Go on to the next piece of a wide fan-out; False when another did."""
        return bool(
            self._execute(
                "UPDATE flows_events SET piece = :new WHERE id = :id AND piece = :old RETURNING id",
                id=event_id,
                old=old,
                new=new,
            )
        )

    def arrived_at(self, event_id: str) -> int | None:
        """When it was routed, None when it was not."""
        rows = self._execute("SELECT arrived_at FROM flows_events WHERE id = :id", id=event_id)
        return rows[0][0] if rows else None

    def arrivals(
        self, name: str, since: int, run_id: str, limit: int, *, holding: str | None = None
    ) -> list[StoredEvent]:
        """Events of the name since then, in order of arrival, without the run's own trigger and what it consumed.

        `holding`: only those whose data has this piece of JSON somewhere. Where payloads are sealed the database cannot
        tell, so they are read in pages; raises BoundExceeded past 20,000.
        """
        asked = {"name": name, "since": since, "run": run_id, "most": limit}
        if holding is None or self._connection.sealer is None:
            return [read_event(row) for row in self._execute(ARRIVALS, holding=holding, at=since, after="", **asked)]
        found: list[StoredEvent] = []
        at, after = since, ""
        for _ in range(SEALED_LOOK // limit + 1):
            rows = self._execute(ARRIVALS, holding=None, at=at, after=after, **asked)
            found += [read_event(row) for row in rows if holding in row[3]]
            if len(rows) < limit or len(found) >= limit:
                return found[:limit]
            at, after = rows[-1][6], rows[-1][0]
        remedy = "Use lookback='wait' or a shorter one; where payloads are encrypted each has to be read."
        raise BoundExceeded(f"encrypted events {name!r} to look back over", SEALED_LOOK, SEALED_LOOK + 1, remedy)

    def note_problem(self, event_id: str, problem: str) -> None:
        """Why a condition could not be judged for the event."""
        self._execute("UPDATE flows_events SET problem = :problem WHERE id = :id", id=event_id, problem=problem)
