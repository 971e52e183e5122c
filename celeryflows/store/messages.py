"""Messages that may be lost: queued runs that nobody claimed, and what tells a loss from a backlog."""

from dataclasses import dataclass

from celeryflows.model.runs import Delivery
from celeryflows.store.executor import Verbs


@dataclass(frozen=True, slots=True)
class Unclaimed:
    """A queued run whose message has been under way for `age` microseconds, after `sends` further tries."""

    delivery: Delivery
    sent_at: int
    age: int
    sends: int


class Messages(Verbs):
    """The verbs of messages under way."""

    def unclaimed(self, older_than: int, limit: int = 500) -> list[Unclaimed]:
        """Queued runs sent longer ago than `older_than` microseconds, oldest first."""
        rows = self._execute(
            "SELECT id, flow, message, sent_at, {now} - sent_at, sends FROM flows_runs "
            "WHERE status = 'queued' AND sent_at <= {now} - :age ORDER BY sent_at LIMIT :most",
            age=older_than,
            most=limit,
        )
        return [Unclaimed(Delivery(row[0], row[1], row[2]), row[3], row[4], row[5]) for row in rows]

    def newest_claimed(self) -> dict[str, int]:
        """By flow: when the newest message was sent of those that are being worked on."""
        rows = self._execute("SELECT flow, sent_at FROM flows_runs WHERE status = 'running' AND sent_at IS NOT NULL")
        # As many as are at work: grouped here, for SQLite would walk every run in the order of its flow.
        newest: dict[str, int] = {}
        for flow, sent_at in rows:
            newest[flow] = max(sent_at, newest.get(flow, 0))
        return newest

    def resend(self, run_id: str, sent_at: int) -> bool:
        """Claim the right to send it again; False when it moved on."""
        return bool(
            self._execute(
                "UPDATE flows_runs SET sent_at = {now}, sends = sends + 1 "
                "WHERE id = :id AND status = 'queued' AND sent_at = :sent RETURNING id",
                id=run_id,
                sent=sent_at,
            )
        )

    def unknown_task(self, run_id: str, later: int) -> None:
        """An old worker dropped the message for a task that it does not know: look again in `later` microseconds."""
        self._execute(
            "UPDATE flows_runs SET sent_at = {now} + :later, sends = sends + 1 WHERE id = :id AND status = 'queued'",
            id=run_id,
            later=later,
        )

    def resend_all(self, limit: int) -> list[Delivery]:
        """After the broker lost everything: the oldest messages of before, marked as sent again."""
        rows = self._execute(
            "WITH lost AS {materialized} (SELECT id FROM flows_runs WHERE status = 'queued' "
            "AND sent_at <= (SELECT CAST(value AS bigint) FROM flows_meta WHERE key = 'broker_epoch_at') "
            "ORDER BY sent_at LIMIT :most {lock_what_is_free}) "
            "UPDATE flows_runs SET sent_at = {now} WHERE id IN (SELECT id FROM lost) AND status = 'queued' "
            "RETURNING id, flow, message",
            most=limit,
        )
        return [Delivery(*row) for row in rows]
