"""The end of a limited run at a gate where nobody waits: its row and its slot in one statement.

On databases with writing CTEs; where there is one writer, a round trip costs nothing that could be saved."""

from dataclasses import dataclass

from celeryflows.ids import hash64
from celeryflows.store.executor import Verbs
from celeryflows.store.runs import FENCE, FINISH_UNHEARD, Claim

# A later statement than the gate's shared lock: nobody can have joined the line since.
END = f"""
WITH gate AS MATERIALIZED (SELECT
    EXISTS (SELECT 1 FROM flows_queue WHERE gate = :gate) AS line,
    EXISTS (SELECT 1 FROM flows_slots WHERE gate = :gate AND no > :most AND run_id IS NOT NULL) AS lowered),
  done (owed) AS ({FINISH_UNHEARD.replace(FENCE, f"{FENCE} AND (SELECT NOT line AND NOT lowered FROM gate)")}),
  freed AS (UPDATE flows_slots SET run_id = NULL, branch = NULL
    WHERE gate = :gate AND no = :no AND run_id = :id AND branch = '' AND EXISTS (SELECT 1 FROM done) RETURNING no)
SELECT line, lowered, (SELECT owed FROM done), (SELECT no FROM freed) FROM gate
"""


@dataclass(frozen=True, slots=True)
class Exit:
    """What came of it: what the run owes by its end; None: nothing was written, for somebody waits (`has_line`), for a
    number above the limit is held (`is_lowered`), or for the turn or the version is past."""

    has_line: bool
    is_lowered: bool
    owed: str | None


class Exits(Verbs):
    """The verbs of ends at gates. Lock class 6, then the run and its slot."""

    def share(self, gate: str) -> None:
        """Lock a gate beside others who share it, in one round trip with the transaction's begin."""
        self._connection.lock(f"SELECT pg_advisory_xact_lock_shared({hash64(gate)})")

    def end(self, claim: Claim, most: int, output: str, version: str) -> Exit:
        """running -> completed where nobody listens and nobody waits at the claim's one gate; its slot is free then."""
        line, lowered, owed, _ = self._execute(
            END,
            id=claim.run_id,
            turn=claim.turn,
            token=claim.token,
            gate=claim.gates[0],
            no=claim.numbers[0],
            most=most,
            output=output,
            version=version,
        )[0]
        return Exit(line, lowered, owed)
