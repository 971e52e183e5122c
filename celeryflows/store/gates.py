"""Gates: numbered slots that units hold, lines in which units wait, and the locks around both. No counters.

A slot is given or taken under its gate's shared lock; who joins or leaves a line holds it alone. Lock class 6."""

from collections.abc import Iterable, Sequence

from celeryflows.ids import hash64
from celeryflows.store.branches import Unit
from celeryflows.store.executor import Verbs
from celeryflows.store.locks import Locks

_SHARED = "WITH k AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared(:lock) AS held) "
_FREE = (
    "SELECT gate, no FROM flows_slots WHERE gate = :gate AND no <= :most AND run_id IS NULL {and} "
    # Lowered: who holds a number above the limit takes up room below it.
    "AND NOT EXISTS (SELECT 1 FROM flows_slots o WHERE o.gate = :gate AND o.no > :most AND o.run_id IS NOT NULL) "
    "ORDER BY no LIMIT 1 {lock_what_is_free}"
)
_TAKE = "UPDATE flows_slots SET run_id = :run, branch = :branch WHERE (gate, no) = ({free}) RETURNING no"
TAKE = _TAKE.replace("{free}", _FREE.replace("{and}", ""))
SHARE_AND_TAKE = _SHARED + _TAKE.replace("{free}", _FREE.replace("{and}", "AND EXISTS (SELECT 1 FROM k)"))

_HEAD = (
    "SELECT gate, rank, run_id, branch FROM flows_queue WHERE gate = :gate {and} "
    "ORDER BY rank, run_id, branch LIMIT 1 {lock_what_is_free}"
)
POP = f"DELETE FROM flows_queue WHERE (gate, rank, run_id, branch) = ({_HEAD}) RETURNING run_id, branch, rank"

_MINE = "SELECT 1 FROM flows_slots m WHERE m.gate = :gate AND m.no = :no AND m.run_id = :run AND m.branch = :branch"
# One statement where the database can: the head of the line gets the slot, nobody when the line is empty.
HAND_ON = (
    "WITH x AS ("
    + POP.replace("{and}", f"AND EXISTS ({_MINE})")
    + "), s AS (UPDATE flows_slots SET run_id = (SELECT run_id FROM x), branch = (SELECT branch FROM x) "
    "WHERE gate = :gate AND no = :no AND run_id = :run AND branch = :branch RETURNING no) "
    "SELECT (SELECT no FROM s), (SELECT run_id FROM x), (SELECT branch FROM x)"
)
POP = POP.replace("{and}", "")
POP_MANY = (
    "DELETE FROM flows_queue WHERE (gate, rank, run_id, branch) IN (SELECT gate, rank, run_id, branch FROM flows_queue "
    "WHERE gate = :gate ORDER BY rank, run_id, branch LIMIT :most) RETURNING rank, run_id, branch"
)

SHARE_UNLESS_LOWERED = """
WITH o AS MATERIALIZED (SELECT EXISTS (
  SELECT 1 FROM flows_slots WHERE gate = :gate AND no > :most AND run_id IS NOT NULL) AS lowered)
SELECT lowered, CASE WHEN lowered THEN CAST(pg_advisory_xact_lock(:lock) AS text)
  ELSE CAST(pg_advisory_xact_lock_shared(:lock) AS text) END FROM o
"""


class Gates(Verbs):
    """The verbs of gates. What is read of a gate is read by a later statement than its lock."""

    def _key(self, gate: str) -> int:
        return hash64(gate)

    @property
    def _locks(self) -> Locks:
        return Locks(self._connection)

    def hold(self, gates: Iterable[str]) -> None:
        """Lock gates, alone, sorted."""
        names = sorted(set(gates))
        dialect = self._connection.dialect
        if dialect.has_lock_rows:
            for name in names:
                self._locks.hold_gate(self._key(name))
        elif names and dialect.has_advisory_locks:
            self._execute(
                "SELECT CAST(pg_advisory_xact_lock(k) AS text) FROM unnest(CAST(:keys AS bigint[])) AS k",
                keys=[self._key(name) for name in names],
            )

    def share(self, gate: str) -> None:
        """Lock a gate beside others who share it."""
        dialect = self._connection.dialect
        if dialect.has_advisory_locks:
            self._execute("SELECT CAST(pg_advisory_xact_lock_shared(:lock) AS text)", lock=self._key(gate))
        elif dialect.has_lock_rows:
            self._locks.share_gate(self._key(gate))

    def share_unless_lowered(self, gate: str, most: int) -> bool:
        """Lock a gate, shared; alone when numbers above its limit are held. True: alone."""
        if not self._connection.dialect.has_advisory_locks:
            # One writer is always alone.
            lowered = self._is_lowered(gate, most)
            self.hold([gate]) if lowered else self.share(gate)
            return lowered
        return bool(self._execute(SHARE_UNLESS_LOWERED, gate=gate, most=most, lock=self._key(gate))[0][0])

    def _is_lowered(self, gate: str, most: int) -> bool:
        return bool(
            self._execute(
                "SELECT 1 FROM flows_slots WHERE gate = :gate AND no > :most AND run_id IS NOT NULL LIMIT 1",
                gate=gate,
                most=most,
            )
        )

    def share_and_take(self, gate: str, unit: Unit, most: int) -> int | None:
        """Take a free slot under the shared lock; its number. None: nothing is held, neither slot nor lock."""
        words = {"gate": gate, "run": unit[0], "branch": unit[1], "most": most}
        if not self._connection.dialect.has_advisory_locks:
            # A row's lock that was shared cannot be given up within a transaction: MariaDB's is held alone at once.
            self.hold([gate])
            rows = self._execute(TAKE, **words)
            return rows[0][0] if rows else None
        self._execute("SAVEPOINT celeryflows_gate")
        rows = self._execute(SHARE_AND_TAKE, **words, lock=self._key(gate))
        if rows:
            return int(rows[0][0])
        # This frees the shared lock: two who would both go on to hold it alone would wait for each other.
        self._connection.back_to("celeryflows_gate")
        return None

    def value(self, line: str) -> str | None:
        """The value of the key of a gate or throttle that somebody waits at, as canonical JSON."""
        rows = self._execute(
            "SELECT value FROM flows_gates WHERE key = :line "
            "UNION ALL SELECT value FROM flows_meters WHERE key = :line",
            line=line,
        )
        return rows[0][0] if rows else None

    def hand_on(self, gate: str, no: int, unit: Unit) -> Unit | None:
        """Give a unit's slot to the head of the line; who has it now. Left as it is when it was not the unit's."""
        words = {"gate": gate, "no": no, "run": unit[0], "branch": unit[1]}
        if self._connection.dialect.has_advisory_locks:
            _, run, branch = self._execute(HAND_ON, **words)[0]
            return None if run is None else (run, branch)
        if not self._execute(f"{_MINE} {{lock}}", **words):
            return None
        following = self.pop(gate)
        self._execute(
            "UPDATE flows_slots SET run_id = :run, branch = :branch WHERE gate = :gate AND no = :no",
            gate=gate,
            no=no,
            run=following[0] if following else None,
            branch=following[1] if following else None,
        )
        return following

    def vacate(self, gate: str, no: int, unit: Unit) -> bool:
        """Free a unit's slot; False when it was not the unit's."""
        return bool(
            self._execute(
                "UPDATE flows_slots SET run_id = NULL, branch = NULL "
                "WHERE gate = :gate AND no = :no AND run_id = :run AND branch = :branch RETURNING no",
                gate=gate,
                no=no,
                run=unit[0],
                branch=unit[1],
            )
        )

    def pass_to(self, gate: str, no: int, unit: Unit, following: Unit) -> bool:
        """Another unit goes on in a unit's slot; False when it was not the unit's."""
        return bool(
            self._execute(
                "UPDATE flows_slots SET run_id = :new_run, branch = :new_branch "
                "WHERE gate = :gate AND no = :no AND run_id = :run AND branch = :branch RETURNING no",
                gate=gate,
                no=no,
                run=unit[0],
                branch=unit[1],
                new_run=following[0],
                new_branch=following[1],
            )
        )

    # -- with the gate's lock held alone

    def forget_lock(self, gate: str) -> None:
        """The gate is no more."""
        dialect = self._connection.dialect
        if dialect.has_lock_rows:
            self._locks.forget_gate(self._key(gate))

    def pop(self, gate: str) -> Unit | None:
        """Take the head out of the line."""
        rows = self._execute(POP, gate=gate)
        return (rows[0][0], rows[0][1]) if rows else None

    def pop_many(self, gate: str, most: int) -> list[Unit]:
        """Take so many out of the line, in its order."""
        rows = self._execute(POP_MANY, gate=gate, most=most)
        return [(run, branch) for rank, run, branch in sorted(rows)]

    def count(self, gate: str) -> tuple[int, int]:
        """How many slots are held, and the highest number that there is."""
        rows = self._execute("SELECT count(run_id), COALESCE(max(no), 0) FROM flows_slots WHERE gate = :g", g=gate)
        return rows[0][0], rows[0][1]

    def has_line(self, gate: str) -> bool:
        """True when somebody waits."""
        return bool(self._execute("SELECT 1 FROM flows_queue WHERE gate = :gate LIMIT 1", gate=gate))

    def give(self, gate: str, units: Sequence[Unit], most: int, highest: int) -> list[int]:
        """Slots for so many units, there being room; new ones behind the highest when no more are free."""
        free = self._execute(
            "SELECT no FROM flows_slots WHERE gate = :gate AND no <= :most AND run_id IS NULL "
            "ORDER BY no LIMIT :wanted",
            gate=gate,
            most=most,
            wanted=len(units),
        )
        numbers = [row[0] for row in free]
        reused = len(numbers)
        numbers += range(highest + 1, highest + 1 + len(units) - reused)
        rows = [
            {"gate": gate, "no": no, "run": unit[0], "branch": unit[1]} for no, unit in zip(numbers, units, strict=True)
        ]
        self._each(
            "UPDATE flows_slots SET run_id = :run, branch = :branch WHERE gate = :gate AND no = :no", rows[:reused]
        )
        self._each(
            "INSERT INTO flows_slots (gate, no, run_id, branch) VALUES (:gate, :no, :run, :branch)", rows[reused:]
        )
        return numbers

    def grow(self, gate: str, highest: int, most: int) -> None:
        """Keep free slots ready, twice as many as there are: who comes next need not be alone to take one."""
        numbers = range(highest + 1, min(most, 2 * highest) + 1)
        self._each("INSERT INTO flows_slots (gate, no) VALUES (:gate, :no)", [{"gate": gate, "no": n} for n in numbers])

    def shrink(self, gate: str, most: int) -> None:
        """Forget the numbers above a lowered limit, once nobody holds one of them."""
        if not self._is_lowered(gate, most):
            self._execute("DELETE FROM flows_slots WHERE gate = :gate AND no > :most", gate=gate, most=most)

    def join(self, gate: str, units: Sequence[tuple[int, Unit]]) -> None:
        """Stand in line, each at its rank."""
        self._each(
            "INSERT INTO flows_queue (gate, rank, run_id, branch, joined_at) "
            "VALUES (:gate, :rank, :run, :branch, {now}) ON CONFLICT DO NOTHING",
            [{"gate": gate, "rank": rank, "run": unit[0], "branch": unit[1]} for rank, unit in units],
        )

    def unjoin(self, gate: str, rank: int, unit: Unit) -> bool:
        """Leave the line; False when the unit did not stand there."""
        return bool(
            self._execute(
                "DELETE FROM flows_queue WHERE gate = :gate AND rank = :rank AND run_id = :run AND branch = :branch "
                "RETURNING rank",
                gate=gate,
                rank=rank,
                run=unit[0],
                branch=unit[1],
            )
        )

    def know(self, gates: Sequence[dict[str, object]]) -> None:
        """Note what gates are, for those who look: name, level, limit, flow and value."""
        self._each(
            "INSERT INTO flows_gates (key, level, limit_id, flow, value, touched_at) "
            "VALUES (:key, :level, :limit, :flow, :value, {now}) ON CONFLICT (key) DO NOTHING",
            gates,
        )

    def _each(self, sql: str, rows: Sequence[dict[str, object]]) -> None:
        if len(rows) == 1:
            self._execute(sql, **rows[0])
        else:
            self._many(sql, rows)
