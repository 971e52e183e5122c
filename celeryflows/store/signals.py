"""Waits for signals: one is open for each name. They stand among the other waits, under a hash of their own."""

from dataclasses import dataclass

from celeryflows.model.signals import SignalSpec, signal_hash
from celeryflows.model.steps import branch_of
from celeryflows.store.columns import ALONG_WAITS
from celeryflows.store.executor import Verbs


@dataclass(frozen=True, slots=True)
class Waiter:
    """The open wait for a signal, of a run or its branch; `is_due`: its time is out, and nobody has told it yet."""

    id: str
    run_id: str
    is_due: bool
    branch: str = ""

    @property
    def unit(self) -> tuple[str, str]:
        """Who waits."""
        return self.run_id, self.branch


class Signals(Verbs):
    """The verbs of signals. Who arms holds the name's stripe; who answers or replaces, the waiting run's row."""

    def waiter(self, name: str) -> Waiter | None:
        """Who waits for the name, None when nobody does."""
        rows = self._execute(
            "SELECT id, run_id, due_at <= {now}, branch FROM flows_waits "
            f"WHERE name = :name AND hash = :hash AND kind = 'signal' AND state = 'open' AND {ALONG_WAITS} LIMIT 1",
            name=name,
            hash=signal_hash(name),
        )
        return Waiter(rows[0][0], rows[0][1], bool(rows[0][2]), rows[0][3]) if rows else None

    def arm(self, wait_id: str, run_id: str, spec: SignalSpec, due: int, *, state: str = "open") -> None:
        """Write the wait, open or refused; left as it stands when the run has it already."""
        self._execute(
            "INSERT INTO flows_waits (id, run_id, key, kind, name, path, hash, value, began, armed_at, state, due_at, "
            "branch) VALUES (:id, :run, :key, 'signal', :name, '', :hash, '', :began, {now}, :state, :due, :branch) "
            "ON CONFLICT (run_id, key) DO NOTHING",
            id=wait_id,
            run=run_id,
            key=spec.key,
            branch=branch_of(spec.key),
            name=spec.name,
            hash=spec.hash,
            began=spec.began,
            state=state,
            due=due,
        )

    def is_armed(self, wait_id: str) -> bool:
        """True when the wait was written, whatever became of it."""
        return bool(self._execute("SELECT 1 FROM flows_waits WHERE id = :id", id=wait_id))

    def end(self, wait_id: str, state: str) -> bool:
        """open -> replaced or expired; False when it was answered first."""
        return bool(
            self._execute(
                "UPDATE flows_waits SET state = :state WHERE id = :id AND state = 'open' RETURNING id",
                id=wait_id,
                state=state,
            )
        )

    def answer(self, wait_id: str, token: str) -> str | None:
        """open -> answered by the signal of this token; the step's key, None when it was over before."""
        rows = self._execute(
            "UPDATE flows_waits SET state = 'answered', value = :token WHERE id = :id AND state = 'open' RETURNING key",
            id=wait_id,
            token=token,
        )
        return rows[0][0] if rows else None

    def is_answered_by(self, wait_id: str, token: str) -> bool:
        """After an answer whose reply was lost: was it made."""
        return bool(
            self._execute(
                "SELECT 1 FROM flows_waits WHERE id = :id AND state = 'answered' AND value = :token",
                id=wait_id,
                token=token,
            )
        )
