"""What the leader looks for at the gates: changed limits, lines beside free slots, slots whose unit is gone."""

from collections.abc import Iterable

from celeryflows.store.branches import Unit
from celeryflows.store.executor import Verbs
from celeryflows.store.gates import Gates
from celeryflows.store.runs import Held

LINES = """
SELECT l.gate, (SELECT count(*) FROM flows_slots s WHERE s.gate = l.gate AND s.run_id IS NOT NULL) FROM ({lines}) AS l
"""

_KNOWS = "((u.g1 = s.gate AND u.n1 = s.no) OR (u.g2 = s.gate AND u.n2 = s.no))"
STRAYS = f"""
SELECT s.gate, s.no, s.run_id, s.branch FROM flows_slots s LEFT JOIN flows_runs u ON u.id = s.run_id
WHERE s.run_id IS NOT NULL AND s.branch = '' AND NOT COALESCE({_KNOWS}, false)
UNION ALL
SELECT s.gate, s.no, s.run_id, s.branch FROM flows_slots s
LEFT JOIN flows_branches u ON u.run_id = s.run_id AND u.path = s.branch
WHERE s.run_id IS NOT NULL AND s.branch <> '' AND NOT COALESCE({_KNOWS}, false)
LIMIT :most
"""
_ORPHANS = """
SELECT ended.id, ended.turn, COALESCE(ended.worker, ''), COALESCE(ended.claim_tok, 0), ended.path, ended.carrier FROM (
  SELECT id, turn, worker, claim_tok, '' AS path, COALESCE(carrier, '') AS carrier FROM flows_runs u WHERE {leaving}
  UNION ALL SELECT run_id, turn, worker, claim_tok, path, carrier FROM flows_branches u WHERE {leaving_branch}) AS ended
LEFT JOIN flows_workers w ON w.id = ended.worker WHERE true
"""


class GateAudit(Verbs):
    """The verbs of the audit."""

    def mark(self, limits: Iterable[str]) -> None:
        """These limits have changed: their gates are to be filled."""
        self._execute(
            "UPDATE flows_gates SET fill_at = {now} WHERE limit_id {in_texts:limits}",
            limits=self._array(sorted(set(limits))),
        )

    def to_fill(self, limit: int = 200) -> list[str]:
        """Gates whose limit has changed."""
        rows = self._execute(
            "SELECT key FROM flows_gates WHERE fill_at IS NOT NULL ORDER BY fill_at LIMIT :most", most=limit
        )
        return [row[0] for row in rows]

    def filled(self, gate: str) -> None:
        """Nobody waits any more for whom there is room."""
        self._execute("UPDATE flows_gates SET fill_at = NULL WHERE key = :gate AND fill_at IS NOT NULL", gate=gate)

    def lines(self) -> list[tuple[str, int]]:
        """Every gate and throttle with a line, and how many slots are held there."""
        return self._execute(LINES)

    def strays(self, limit: int = 200) -> list[tuple[str, int, Unit]]:
        """Slots whose unit does not know of them: gate, number, unit."""
        rows = self._execute(STRAYS, most=limit)
        return [(gate, no, (run, branch)) for gate, no, run, branch in rows]

    def is_stray(self, gate: str, no: int, unit: Unit) -> bool:
        """The same of one slot, with its gate's lock held."""
        return any(
            (one[0], one[1], one[2], one[3]) == (gate, no, *unit)
            for one in self._execute(
                STRAYS.replace("s.run_id IS NOT NULL", "s.gate = :gate AND s.no = :no"), gate=gate, no=no, most=1
            )
        )

    def orphans(self, silence: int, limit: int = 200) -> list[Held]:
        """Ended units that hold something yet and whose worker has not beaten for so long; of none: at once."""
        rows = self._execute(
            f"{_ORPHANS} AND (ended.worker IS NULL OR w.id IS NULL OR w.beat_at <= {{now}} - :silence) LIMIT :most",
            silence=silence,
            most=limit,
        )
        return [Held(*row) for row in rows]

    def at_work(self, worker: str) -> list[Held]:
        """Ended units that a worker may be at work on, and that hold something yet."""
        return [Held(*row) for row in self._execute(f"{_ORPHANS} AND ended.worker = :worker", worker=worker)]

    def idle(self, limit: int = 200) -> list[str]:
        """Gates that were not looked at for an hour."""
        rows = self._execute(
            "SELECT key FROM flows_gates WHERE touched_at < {by_now} - 3600000000 ORDER BY touched_at LIMIT :most",
            most=limit,
        )
        return [row[0] for row in rows]

    def prune(self, gate: str) -> bool:
        """Forget a gate whose lock is held alone, unless somebody holds a slot or waits."""
        gates = Gates(self._connection)
        if gates.count(gate)[0] or gates.has_line(gate):
            self._execute("UPDATE flows_gates SET touched_at = {now} WHERE key = :gate", gate=gate)
            return False
        self._execute("DELETE FROM flows_slots WHERE gate = :gate", gate=gate)
        self._execute("DELETE FROM flows_gates WHERE key = :gate", gate=gate)
        gates.forget_lock(gate)
        return True
