"""The claim that is made with the end of the run before it, for a store without a statement that does both: one commit
all the same. It holds to its promise who gives such a claim back."""

from typing import Any

from celeryflows.store.bundles import CLAIM_NEXT, Bundles, NextRun
from celeryflows.store.connection import Connection
from celeryflows.store.executor import Row
from celeryflows.store.runs import Claim
from tests.simulation.ledger import Ledger

# All of a run but who carries and sends it.
STANDS = """
SELECT status, turn, attempt, lost, lost_at, lost_since, worker, started_at, wake_at, expires_at, finish_by, ended_at,
  output, error, owes, held_at, g1, g2, n1, n2, claim_tok FROM flows_runs WHERE id = :id
"""


class LinkedBundles(Bundles):
    """The verbs over a link: before and after the commit anything may happen."""

    def __init__(self, connection: Connection, ledger: Ledger) -> None:
        super().__init__(connection)
        self._linked = connection
        self._ledger = ledger

    @property
    def claims_with_an_end(self) -> bool:
        """As on PostgreSQL."""
        return True

    def finish_and_claim(self, claim: Claim, output: str, version: str, next: NextRun) -> tuple[str | None, list[Row]]:
        """The end, and where it was made the claim."""
        with self._linked.transaction():
            owed = self._linked.runs.finish_unheard(claim, output, version)
            if owed is None:
                return None, []
            *self._ledger.stood[next.token], _ = self._stands(next.id)
            words = {"next": next.id, "next_token": next.token, "worker": claim.worker, "carrier": next.carrier}
            return owed, self._execute(CLAIM_NEXT, **words)

    def give_back(self, next: NextRun) -> bool:
        """It stands as if it had never been claimed, and only if that claim is still the last one."""
        with self._linked.transaction():
            *_, token = self._stands(next.id)
            done = super().give_back(next)
            *stands, _ = self._stands(next.id)
        if done and token != next.token:
            self._ledger.trip(f"{next.id} was given back, and the claim was another's")
        elif done and stands != self._ledger.stood[next.token]:
            self._ledger.trip(f"{next.id} stood as {self._ledger.stood[next.token]}, and was given back as {stands}")
        return done

    def _stands(self, run_id: str) -> tuple[Any, ...]:
        (row,) = self._execute(STANDS, id=run_id)
        return row
