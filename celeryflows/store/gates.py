"""Gates: numbered slots that units hold, lines in which units wait, and the locks around both. No counters.

A slot is given or taken under its gate's shared lock; who joins or leaves a line holds it alone. Lock class 6."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from celeryflows.ids import hash64
from celeryflows.store.branches import Unit
from celeryflows.store.executor import Verbs
from celeryflows.store.runs import Held

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

# Where a unit is held that has come back from its sleep, and has not asked at its gates yet.
DOOR = "0"

_UNIT = "r.id, '', r.status, r.turn, r.g1, r.g2, r.n1, r.n2, r.held_at, r.rank, r.priority, r.created_at, r.flow"
_BRANCH = (
    "b.run_id, b.path, b.status, b.turn, b.g1, b.g2, b.n1, b.n2, b.held_at, b.rank, r.priority, r.created_at, r.flow"
)
# Of one that has ended: it holds something yet, and no turn of it is at work that will give it up.
_LEFT = "ended_at IS NOT NULL AND (n1 IS NOT NULL OR n2 IS NOT NULL OR held_at IS NOT NULL)"


# From line to line by the primary key: the walk costs as much as there are lines, not as they are long.
LINES = """
WITH RECURSIVE g AS (
  SELECT (SELECT min(gate) FROM flows_queue) AS gate
  UNION ALL SELECT (SELECT min(q.gate) FROM flows_queue q WHERE q.gate > g.gate) FROM g WHERE g.gate IS NOT NULL)
SELECT g.gate, (SELECT count(*) FROM flows_slots s WHERE s.gate = g.gate AND s.run_id IS NOT NULL)
FROM g WHERE g.gate IS NOT NULL
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
_HOLDS = "u.ended_at IS NOT NULL AND (u.n1 IS NOT NULL OR u.n2 IS NOT NULL OR u.held_at IS NOT NULL)"
_ORPHANS = f"""
SELECT u.id, u.turn, COALESCE(u.worker, ''), COALESCE(u.claim_tok, 0), u.path, u.carrier FROM (
  SELECT id, turn, worker, claim_tok, '' AS path, '' AS carrier FROM flows_runs u WHERE {_HOLDS}
  UNION ALL SELECT run_id, turn, worker, claim_tok, path, carrier FROM flows_branches u WHERE {_HOLDS}) AS u
LEFT JOIN flows_workers w ON w.id = u.worker WHERE true
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """A unit at its gates: the numbers of its slots, and the line where it waits. Times in microseconds."""

    run_id: str
    path: str
    status: str
    turn: int
    gates: tuple[str, ...]
    numbers: tuple[int | None, ...]
    held_at: str | None
    rank: int | None
    priority: int
    created_at: int
    flow: str

    @property
    def unit(self) -> Unit:
        """The run, or its branch."""
        return self.run_id, self.path


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a unit comes to stand: as in Standing. `was_at`: where it was held until now."""

    unit: Unit
    numbers: tuple[int | None, ...]
    held_at: str | None
    rank: int | None
    was_at: str | None


class Gates(Verbs):
    """The verbs of gates. What is read of a gate is read by a later statement than its lock."""

    def _key(self, gate: str) -> int:
        return hash64(gate)

    def hold(self, gates: Iterable[str]) -> None:
        """Lock gates, alone, sorted."""
        names = sorted(set(gates))
        if names and self._connection.dialect.has_advisory_locks:
            self._execute(
                "SELECT CAST(pg_advisory_xact_lock(k) AS text) FROM unnest(CAST(:keys AS bigint[])) AS k",
                keys=[self._key(name) for name in names],
            )

    def share(self, gate: str) -> None:
        """Lock a gate beside others who share it."""
        if self._connection.dialect.has_advisory_locks:
            self._execute("SELECT CAST(pg_advisory_xact_lock_shared(:lock) AS text)", lock=self._key(gate))

    def share_unless_lowered(self, gate: str, most: int) -> bool:
        """Lock a gate, shared; alone when numbers above its limit are held. True: alone."""
        if not self._connection.dialect.has_advisory_locks:
            # One writer is always alone.
            return self._is_lowered(gate, most)
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
            rows = self._execute(TAKE, **words)
            return rows[0][0] if rows else None
        self._execute("SAVEPOINT celeryflows_gate")
        rows = self._execute(SHARE_AND_TAKE, **words, lock=self._key(gate))
        if rows:
            return int(rows[0][0])
        # This frees the shared lock: two who would both go on to hold it alone would wait for each other.
        self._execute("ROLLBACK TO SAVEPOINT celeryflows_gate")
        return None

    def hand_on(self, gate: str, no: int, unit: Unit) -> Unit | None:
        """Give a unit's slot to the head of the line; who has it now. Left as it is when it was not the unit's."""
        words = {"gate": gate, "no": no, "run": unit[0], "branch": unit[1]}
        if self._connection.dialect.has_advisory_locks:
            _, run, branch = self._execute(HAND_ON, **words)[0]
            return None if run is None else (run, branch)
        if not self._execute(_MINE, **words):
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
            "SELECT no FROM flows_slots WHERE gate = :gate AND no <= :most AND run_id IS NULL ORDER BY no LIMIT :wanted",
            gate=gate,
            most=most,
            wanted=len(units),
        )
        numbers = [row[0] for row in free]
        reused = len(numbers)
        numbers += range(highest + 1, highest + 1 + len(units) - reused)
        rows = [
            {"gate": gate, "no": no, "run": unit[0], "branch": unit[1]}
            for no, unit in zip(numbers, units, strict=True)
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
            "VALUES (:key, :level, :limit, :flow, :shown, {now}) ON CONFLICT (key) DO NOTHING",
            gates,
        )

    def _each(self, sql: str, rows: Sequence[dict[str, object]]) -> None:
        if len(rows) == 1:
            self._execute(sql, **rows[0])
        else:
            self._many(sql, rows)

    # -- the units' own rows

    def standings(self, units: Iterable[Unit]) -> list[Standing]:
        """How units stand at their gates; those that are gone are left out."""
        ordered = sorted(units)
        runs = [run for run, path in ordered if not path]
        rows = []
        if runs:
            rows += self._execute(
                f"SELECT {_UNIT} FROM flows_runs r WHERE r.id {{in_texts:runs}}",
                runs=self._array(runs),
            )
        for run, path in ordered:
            if path:
                rows += self._execute(
                    f"SELECT {_BRANCH} FROM flows_branches b JOIN flows_runs r ON r.id = b.run_id "
                    "WHERE b.run_id = :run AND b.path = :path",
                    run=run,
                    path=path,
                )
        return [_standing(row) for row in rows]

    def at_door(self, limit: int = 200) -> list[Unit]:
        """Units that have to ask at their gates."""
        rows = self._execute(
            f"SELECT id, '' FROM flows_runs WHERE held_at = '{DOOR}' AND status = 'queued' "
            f"UNION ALL SELECT run_id, path FROM flows_branches WHERE held_at = '{DOOR}' AND status = 'queued' "
            "LIMIT :most",
            most=limit,
        )
        return [(row[0], row[1]) for row in rows]

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

    # -- the audit

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
            for one in self._execute(STRAYS.replace("s.run_id IS NOT NULL", "s.gate = :gate AND s.no = :no"), gate=gate, no=no, most=1)
        )

    def orphans(self, silence: int, limit: int = 200) -> list[Held]:
        """Ended units that hold something yet and whose worker has not beaten for so long; of none: at once."""
        rows = self._execute(f"{_ORPHANS} AND (u.worker IS NULL OR w.id IS NULL OR w.beat_at <= {{now}} - :silence) LIMIT :most", silence=silence, most=limit)
        return [Held(*row) for row in rows]

    def at_work(self, worker: str) -> list[Held]:
        """Ended units that a worker may be at work on, and that hold something yet."""
        return [Held(*row) for row in self._execute(f"{_ORPHANS} AND u.worker = :worker", worker=worker)]

    def idle(self, limit: int = 200) -> list[str]:
        """Gates that were not looked at for an hour."""
        rows = self._execute(
            "SELECT key FROM flows_gates WHERE touched_at < {now} - 3600000000 ORDER BY touched_at LIMIT :most",
            most=limit,
        )
        return [row[0] for row in rows]

    def prune(self, gate: str) -> bool:
        """Forget a gate whose lock is held alone, unless somebody holds a slot or waits."""
        if self.count(gate)[0] or self.has_line(gate):
            self._execute("UPDATE flows_gates SET touched_at = {now} WHERE key = :gate", gate=gate)
            return False
        self._execute("DELETE FROM flows_slots WHERE gate = :gate", gate=gate)
        self._execute("DELETE FROM flows_gates WHERE key = :gate", gate=gate)
        return True

    def left_behind(self, run_ids: Sequence[str]) -> list[Standing]:
        """Of these runs and their branches what has ended and holds something yet, no turn being at work on it."""
        return [
            _standing(row)
            for row in self._execute(
                f"SELECT {_UNIT} FROM flows_runs r WHERE r.id {{in_texts:ids}} AND r.worker IS NULL AND {_LEFT} "
                f"UNION ALL SELECT {_BRANCH} FROM flows_branches b JOIN flows_runs r ON r.id = b.run_id "
                "WHERE b.run_id {in_texts:ids} AND b.worker IS NULL AND b.ended_at IS NOT NULL "
                "AND (b.n1 IS NOT NULL OR b.n2 IS NOT NULL OR b.held_at IS NOT NULL)",
                ids=self._array(sorted(set(run_ids))),
            )
        ]

    def clear(self, unit: Unit, fence: tuple[int, int | None] | None = None) -> bool:
        """An ended unit holds nothing any more; False when that was so before. `fence`: the turn and token that leave;
        without it, no turn may be at work."""
        of, by = ("branches", "run_id = :run AND path = :path") if unit[1] else ("runs", "id = :run")
        words: dict[str, object] = {"path": unit[1]} if unit[1] else {}
        at_work = "worker IS NULL"
        if fence is not None:
            words |= {"turn": fence[0], "token": fence[1]}
            at_work = "turn = :turn AND claim_tok = :token AND worker IS NOT NULL"
        return bool(
            self._execute(
                f"UPDATE flows_{of} SET n1 = NULL, n2 = NULL, held_at = NULL, worker = NULL "
                f"WHERE {by} AND {at_work} AND {_LEFT} RETURNING 1",
                run=unit[0],
                **words,
            )
        )

    def place(self, spot: Spot) -> bool:
        """Write where a locked, queued unit stands; False when it is not held any more where it was."""
        first, second = (*spot.numbers, None, None)[:2]
        of, by = ("branches", "run_id = :run AND path = :path") if spot.unit[1] else ("runs", "id = :run")
        words = {"path": spot.unit[1]} if spot.unit[1] else {}
        return bool(
            self._execute(
                f"UPDATE flows_{of} SET n1 = :first, n2 = :second, held_at = CAST(:held AS varchar), "
                "rank = COALESCE(CAST(:rank AS bigint), rank), sends = 0, "
                "sent_at = CASE WHEN CAST(:held AS varchar) IS NULL THEN {now} END "
                f"WHERE {by} AND status = 'queued' AND COALESCE(held_at, '') = :was RETURNING 1",
                run=spot.unit[0],
                first=first,
                second=second,
                held=spot.held_at,
                rank=spot.rank,
                was=spot.was_at or "",
                **words,
            )
        )


def _standing(row: Sequence[object]) -> Standing:
    run, path, status, turn, first, second, one, two, held, rank, priority, created, flow = row
    gates = tuple(gate for gate in (first, second) if gate is not None)
    numbers = (one, two)[: len(gates)]
    return Standing(run, path, status, turn, gates, numbers, held, rank, priority or 0, created, flow)  # type: ignore[arg-type]
