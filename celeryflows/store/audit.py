"""What people did to runs and flows, and counts of what was refused at the doors."""

from collections.abc import Sequence

from celeryflows.store.executor import Verbs


class Audit(Verbs):
    """The verbs of the audit and of counts."""

    def begin(self, id: str, who: str, via: str, action: str, subject: str) -> None:
        """Somebody is about to do something."""
        self._execute(
            "INSERT INTO flows_audit (id, at, who, via, action, subject, outcome) "
            "VALUES (:id, {now}, :who, :via, :action, :subject, 'begun')",
            id=id,
            who=who,
            via=via,
            action=action,
            subject=subject,
        )

    def end(self, id: str, outcome: str) -> None:
        """What came of it."""
        self._execute("UPDATE flows_audit SET outcome = :outcome WHERE id = :id", id=id, outcome=outcome)

    def old(self, before: int, after: str, below: str, limit: int) -> list[str]:
        """Entries of before a moment, by their ids, which tell about when they were made."""
        rows = self._execute(
            "SELECT id FROM flows_audit WHERE id > :after AND id < :below AND at <= :before ORDER BY id LIMIT :most",
            after=after,
            below=below,
            before=before,
            most=limit,
        )
        return [row[0] for row in rows]

    def forget(self, ids: Sequence[str]) -> None:
        """Delete entries."""
        self._execute("DELETE FROM flows_audit WHERE id {in_texts:ids}", ids=self._array(ids))

    def count(self, name: str) -> None:
        """One more of these."""
        self._execute(
            "INSERT INTO flows_counts (name, n) VALUES (:name, 1) "
            "ON CONFLICT (name) DO UPDATE SET n = flows_counts.n + 1",
            name=name,
        )

    def counts(self) -> dict[str, int]:
        """How many of each."""
        return {row[0]: row[1] for row in self._execute("SELECT name, n FROM flows_counts ORDER BY name")}
