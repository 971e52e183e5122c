"""Bounds of a run's time: `expires_at` until its first turn, `finish_by` from then on."""

from collections.abc import Sequence
from dataclasses import dataclass

from celeryflows.store.columns import ALONG
from celeryflows.store.executor import Verbs
from celeryflows.store.runs import Bound, Claim


@dataclass(frozen=True, slots=True)
class Overdue:
    """A run past a bound; `within`: how long it had, from its creation or its start, in microseconds; `reason`: why it
    is to end, where that was said before."""

    id: str
    flow: str
    within: int
    reason: str | None


class Bounds(Verbs):
    """The verbs of bounds."""

    def past(self, bound: Bound, limit: int = 200) -> list[Overdue]:
        """Runs past the bound, the longest first; of `finish_by` those too that ended meanwhile."""
        begins = "created_at" if bound == "expires_at" else "started_at"
        rows = self._execute(
            f"SELECT id, flow, {bound} - COALESCE({begins}, created_at), reason FROM flows_runs "
            f"WHERE {bound} <= {{by_now}} AND {ALONG} ORDER BY {bound} LIMIT :most",
            most=limit,
        )
        return [Overdue(*row) for row in rows]

    def set_start(self, run_ids: Sequence[str], within: int) -> None:
        """New runs that have to start so many microseconds after now."""
        self._execute(
            "UPDATE flows_runs SET expires_at = {now} + :within WHERE id {in_texts:ids} AND status = 'queued'",
            ids=self._array(run_ids),
            within=within,
        )

    def set_finish(self, claim: Claim, within: int) -> None:
        """Once a run: it has to end so many microseconds after its first turn began."""
        self._execute(
            "UPDATE flows_runs SET finish_by = started_at + :within "
            "WHERE id = :id AND turn = :turn AND claim_tok = :token AND status = 'running' AND finish_by IS NULL",
            id=claim.run_id,
            turn=claim.turn,
            token=claim.token,
            within=within,
        )

    def forget(self, run_ids: Sequence[str]) -> None:
        """Of runs that have ended in time; their rows are locked. Why they were to be cancelled is forgotten too."""
        self._execute(
            "UPDATE flows_runs SET finish_by = NULL, "
            "reason = CASE WHEN status IN ('completed', 'failed') THEN NULL ELSE reason END WHERE id {in_texts:ids} "
            "AND status NOT IN ('scheduled', 'queued', 'running', 'suspended')",
            ids=self._array(run_ids),
        )
