"""Messages that may be lost: queued runs that nobody claimed, and what tells a loss from a backlog."""

from dataclasses import dataclass

from celeryflows.model.runs import Delivery
from celeryflows.store.branches import deliveries_of
from celeryflows.store.columns import ALONG
from celeryflows.store.executor import Verbs


@dataclass(frozen=True, slots=True)
class Unclaimed:
    """A queued run or branch whose message has been under way for `age` microseconds, after `sends` further tries."""

    delivery: Delivery
    sent_at: int
    age: int
    sends: int


_EPOCH_AT = "(SELECT CAST(value AS bigint) FROM flows_meta WHERE key = 'broker_epoch_at')"


class Messages(Verbs):
    """The verbs of messages under way."""

    def unclaimed(self, older_than: int, limit: int = 500) -> list[Unclaimed]:
        """Queued runs, and branches, sent longer ago than `older_than` microseconds, each oldest first."""
        rows = self._execute(
            "SELECT id, flow, message, '', sent_at, {now} - sent_at, sends FROM flows_runs "
            "WHERE status = 'queued' AND held_at IS NULL AND sends >= 0 AND sent_at <= {by_now} - :age "
            "ORDER BY sent_at LIMIT :most",
            age=older_than,
            most=limit,
        )
        rows += self._execute(
            "SELECT r.id, r.flow, r.message, b.path, b.sent_at, {now} - b.sent_at, b.sends "
            "FROM flows_branches b JOIN flows_runs r ON r.id = b.run_id "
            "WHERE b.status = 'queued' AND b.held_at IS NULL AND b.sends >= 0 AND b.sent_at <= {by_now} - :age "
            "ORDER BY b.sent_at LIMIT :most",
            age=older_than,
            most=limit,
        )
        return [Unclaimed(Delivery(*row[:4]), *row[4:]) for row in rows]

    def newest_claimed(self) -> dict[str, int]:
        """By flow: when the newest message was sent of those that are being worked on."""
        rows = self._execute(
            f"SELECT flow, sent_at FROM flows_runs WHERE status = 'running' AND {ALONG} AND sent_at IS NOT NULL"
        )
        # What was taken on in passing came by no message.
        rows += self._execute(
            "SELECT r.flow, b.sent_at FROM flows_branches b JOIN flows_runs r ON r.id = b.run_id "
            "WHERE b.status = 'running' AND b.sends >= 0 AND b.sent_at IS NOT NULL AND b.carrier = b.path"
        )
        # As many as are at work: grouped here, for SQLite would walk every run in the order of its flow.
        newest: dict[str, int] = {}
        for flow, sent_at in rows:
            newest[flow] = max(sent_at, newest.get(flow, 0))
        return newest

    def resend(self, run_id: str, sent_at: int, branch: str = "") -> bool:
        """Claim the right to send it again; False when it moved on."""
        if branch:
            return bool(
                self._execute(
                    "UPDATE flows_branches SET sent_at = {now}, sends = sends + 1 "
                    "WHERE run_id = :id AND path = :branch AND status = 'queued' AND sent_at = :sent RETURNING path",
                    id=run_id,
                    branch=branch,
                    sent=sent_at,
                )
            )
        return bool(
            self._execute(
                "UPDATE flows_runs SET sent_at = {now}, sends = sends + 1 "
                "WHERE id = :id AND status = 'queued' AND sent_at = :sent RETURNING id",
                id=run_id,
                sent=sent_at,
            )
        )

    def unknown_task(self, run_id: str, later: int, branch: str = "") -> None:
        """An old worker dropped the message for a task that it does not know: look again in `later` microseconds."""
        if branch:
            self._execute(
                "UPDATE flows_branches SET sent_at = {now} + :later, sends = sends + 1 "
                "WHERE run_id = :id AND path = :branch AND status = 'queued'",
                id=run_id,
                branch=branch,
                later=later,
            )
            return
        self._execute(
            "UPDATE flows_runs SET sent_at = {now} + :later, sends = sends + 1 WHERE id = :id AND status = 'queued'",
            id=run_id,
            later=later,
        )

    def resend_all(self, limit: int) -> list[Delivery]:
        """After the broker lost everything: the oldest messages of before, marked as sent again."""
        rows = self._execute(
            "WITH lost AS {materialized} (SELECT id FROM flows_runs WHERE status = 'queued' "
            f"AND {ALONG} AND held_at IS NULL AND sent_at <= {_EPOCH_AT} "
            "ORDER BY sent_at LIMIT :most {lock_what_is_free}) "
            "UPDATE flows_runs SET sent_at = {now} WHERE id IN (SELECT id FROM lost) AND status = 'queued' "
            "RETURNING id, flow, message",
            most=limit,
        )
        return [Delivery(*row) for row in rows] + self._resend_branches(limit)

    def _resend_branches(self, limit: int) -> list[Delivery]:
        rows = self._execute(
            "WITH lost AS {materialized} (SELECT run_id, path FROM flows_branches WHERE status = 'queued' "
            f"AND {ALONG} AND held_at IS NULL AND sent_at <= {_EPOCH_AT} "
            "ORDER BY sent_at LIMIT :most {lock_what_is_free}) "
            "UPDATE flows_branches SET sent_at = {now} "
            "WHERE (run_id, path) IN (SELECT run_id, path FROM lost) AND status = 'queued' RETURNING run_id, path",
            most=limit,
        )
        return deliveries_of(self, rows)
