"""Calls of flows that belong to a caller's own transaction: kept there, and started after its commit."""

from celeryflows.model.events import StoredEvent
from celeryflows.model.runs import NewRun, Status
from celeryflows.store.events import COLUMNS, event_row, read_event
from celeryflows.store.executor import Verbs

RUN = "run_id, flow, version, wake_at, expires_at, message"
ADD = (
    f"INSERT INTO flows_calls ({RUN}, {COLUMNS}, stored_at) VALUES (:run_id, :flow, :version, :wake_at, :expires_at, "
    ":message, :id, :ext_id, :name, :data, :ts, :v, {now}) ON CONFLICT (run_id) DO NOTHING"
)


class Calls(Verbs):
    """The verbs of calls that are not started yet."""

    def add(self, run: NewRun, event: StoredEvent) -> None:
        """Keep a call; one under the same run id is there already, or is started: that is seen when it is its turn."""
        row = event_row(event)
        del row["piece"]
        self._execute(
            ADD,
            run_id=run.id,
            flow=run.flow,
            version=run.version,
            wake_at=run.wake_at,
            expires_at=run.expires_at,
            message=run.message,
            **row,
        )

    def take(self, run_id: str) -> tuple[NewRun, StoredEvent] | None:
        """Take a call out, to start it in the same transaction; None when another did, or it was rolled back."""
        rows = self._execute(f"DELETE FROM flows_calls WHERE run_id = :id RETURNING {RUN}, {COLUMNS}", id=run_id)
        if not rows:
            return None
        _, flow, version, wake_at, expires_at, message, *event = rows[0]
        stored = read_event(event)
        run = NewRun(
            id=run_id,
            flow=flow,
            version=version,
            status=Status.QUEUED if wake_at is None else Status.SCHEDULED,
            event_id=stored.id,
            message=message,
            wake_at=wake_at,
            expires_at=expires_at,
        )
        return run, stored

    def left(self, older_than: int, limit: int = 200) -> list[str]:
        """Calls that nobody has started, oldest first; `older_than` microseconds, to leave those under way."""
        rows = self._execute(
            "SELECT run_id FROM flows_calls WHERE stored_at <= {by_now} - :age ORDER BY stored_at LIMIT :most",
            age=older_than,
            most=limit,
        )
        return [row[0] for row in rows]
