"""How runs and branches stand at their gates: in their own rows, which are changed with their slots and lines."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from celeryflows.store.branches import Unit
from celeryflows.store.executor import Verbs

# Where a unit is held that has come back from its sleep, and has not asked at its gates yet.
DOOR = "0"

_UNIT = "r.id, '', r.status, r.turn, r.g1, r.g2, r.n1, r.n2, r.held_at, r.rank, r.priority, r.created_at, r.flow"
_BRANCH = (
    "b.run_id, b.path, b.status, b.turn, b.g1, b.g2, b.n1, b.n2, b.held_at, b.rank, r.priority, r.created_at, r.flow"
)
# Of one that has ended: it holds something yet, and no turn of it is at work that will give it up.
_LEFT = "ended_at IS NOT NULL AND (n1 IS NOT NULL OR n2 IS NOT NULL OR held_at IS NOT NULL)"


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


class Standings(Verbs):
    """The verbs of standings."""

    def of(self, units: Iterable[Unit]) -> list[Standing]:
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

    def to_the_door(self, run_id: str, gates: Sequence[str]) -> None:
        """A new run asks at these gates after the commit."""
        first, second = (*gates, None, None)[:2]
        self._execute(
            f"UPDATE flows_runs SET g1 = :first, g2 = :second, held_at = '{DOOR}', sent_at = NULL "
            "WHERE id = :run AND status = 'queued' AND turn = 0",
            run=run_id,
            first=first,
            second=second,
        )

    def lost_its_place(self, unit: Unit, gate: str) -> bool:
        """A unit that is held at a gate and stands in no line there asks at the door again; False for any other."""
        of, by = ("branches", "run_id = :run AND path = :path") if unit[1] else ("runs", "id = :run")
        words = {"path": unit[1]} if unit[1] else {}
        line = "SELECT 1 FROM flows_queue q WHERE q.gate = :gate AND q.run_id = :run AND q.branch = :branch"
        return bool(
            self._execute(
                f"UPDATE flows_{of} SET held_at = '{DOOR}', n1 = NULL, n2 = NULL "
                f"WHERE {by} AND status = 'queued' AND held_at = :gate AND NOT EXISTS ({line}) RETURNING 1",
                run=unit[0],
                branch=unit[1],
                gate=gate,
                **words,
            )
        )

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
