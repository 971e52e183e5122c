"""Branches that were claimed with their group by one delivery: ended together, or given up before they begin."""

from collections.abc import Sequence

from celeryflows.store.executor import Verbs
from celeryflows.store.runs import Claim

# Of one group, ended in passing under one token. As an array where the database takes one.
END_OF_GROUP = """
UPDATE flows_branches SET status = 'completed', worker = NULL, ended_at = {now}, value = :value
WHERE run_id = :run AND path = :path AND turn = 1 AND claim_tok = :token AND status = 'running' RETURNING path
"""
END_OF_GROUP_TOGETHER = """
UPDATE flows_branches SET status = 'completed', worker = NULL, ended_at = {now}, value = given.value
FROM unnest(CAST(:paths AS text[]), CAST(:texts AS text[])) AS given (path, value)
WHERE run_id = :run AND flows_branches.path = given.path AND turn = 1 AND claim_tok = :token AND status = 'running'
RETURNING given.path
"""

# What was claimed with its group and did not begin stands as if it had never been.
GIVE_UP = """
WITH mine AS {materialized} (SELECT run_id, path FROM flows_branches WHERE run_id = :run AND path {in_texts:paths}
  AND turn = 1 AND claim_tok = :token AND status = 'running' ORDER BY path {lock})
UPDATE flows_branches SET status = 'queued', turn = 0, worker = NULL, claim_tok = NULL, started_at = NULL,
  sent_at = {now}, lost = 0, lost_at = NULL WHERE (run_id, path) IN (SELECT run_id, path FROM mine)
"""


class Passing(Verbs):
    """The verbs of branches that a delivery does in passing."""

    def end_together(self, claim: Claim, ends: Sequence[tuple[str, str]]) -> int:
        """running -> completed, of locked branches (path, value) of one group in their first turn, which share a token;
        how many."""
        words: dict[str, object] = {"run": claim.run_id, "token": claim.token}
        if not self._connection.dialect.takes_arrays:
            return sum(len(self._execute(END_OF_GROUP, **words, path=path, value=value)) for path, value in ends)
        sealer = self._connection.sealer
        texts = [value if sealer is None else sealer.seal(value) for _, value in ends]
        return len(self._execute(END_OF_GROUP_TOGETHER, **words, paths=[path for path, _ in ends], texts=texts))

    def give_up(self, claim: Claim, paths: Sequence[str]) -> None:
        """running -> queued, of branches that were claimed with their group and have not begun."""
        self._execute(GIVE_UP, run=claim.run_id, token=claim.token, paths=self._array(sorted(paths)))
