"""Runs that came by one message: who ends one takes the next one on in the same statement, and so by the same commit.

On databases with writing CTEs; where there is one writer, a commit costs little that could be saved."""

from dataclasses import dataclass

from celeryflows.store.executor import Row, Verbs
from celeryflows.store.runs import CLAIM, FINISH_UNHEARD, Claim, claim_of

# Of the next run nothing is lost when it is given back: one that has to start by a moment is claimed by itself.
CLAIM_NEXT = (
    CLAIM.replace(":id", ":next")
    .replace(":token", ":next_token")
    .replace("{its_trigger}", "AND flows_runs.expires_at IS NULL {its_trigger}")
)
_IF_DONE = "AND EXISTS (SELECT 1 FROM done) {its_trigger}"
FINISH_AND_CLAIM = f"""
WITH done (owed) AS ({FINISH_UNHEARD}), next AS ({CLAIM_NEXT.replace("{its_trigger}", _IF_DONE)})
SELECT done.owed, next.* FROM done LEFT JOIN next ON true
"""

# It stands as if it had never been claimed; the token fences what the turn's number cannot.
GIVE_BACK = """
UPDATE flows_runs SET status = 'queued', worker = NULL, claim_tok = NULL, sent_at = {now}, sends = 0,
  started_at = CASE WHEN turn > 1 THEN started_at END, turn = turn - 1
WHERE id = :id AND claim_tok = :token AND status = 'running' RETURNING id
"""


@dataclass(frozen=True, slots=True)
class NextRun:
    """The run that is claimed with the end of the one before it. The token is known before, for a reply may be lost;
    `carrier`: what carries both."""

    id: str
    token: int
    carrier: str


class Bundles(Verbs):
    """The verbs of runs that one delivery takes one after the other. Lock class 8, by id."""

    @property
    def claims_with_an_end(self) -> bool:
        """True where one statement ends a run and claims the next."""
        return self._connection.dialect.has_writing_ctes

    def finish_and_claim(self, claim: Claim, output: str, version: str, next: NextRun) -> tuple[str | None, list[Row]]:
        """running -> completed where nobody listens, and the next run queued -> running. What the end owes, None when
        it was refused; and the row of the claim, if that was made: for `read`."""
        rows = self._execute_hot(
            FINISH_AND_CLAIM,
            id=claim.run_id,
            turn=claim.turn,
            token=claim.token,
            output=output,
            version=version,
            next=next.id,
            next_token=next.token,
            worker=claim.worker,
            carrier=next.carrier,
        )
        if not rows:
            return None, []
        owed, *taken = rows[0]
        return owed, [tuple(taken)] if taken[0] is not None else []

    def read(self, next: NextRun, worker: str, rows: list[Row]) -> Claim | None:
        """The claim that was made. Raises PayloadLocked."""
        return claim_of(next.id, worker, next.token, rows)

    def give_back(self, next: NextRun) -> bool:
        """running -> queued, of a run that was claimed with the end of another and did not begin."""
        return bool(self._execute(GIVE_BACK, id=next.id, token=next.token))
