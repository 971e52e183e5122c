"""Concurrency limits of the simulation: which there are, how releases change them, that nobody too many is in."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from celeryflows.engine.catalog import Catalog
from celeryflows.flow_control.gates import GateBook, limit_of
from celeryflows.model.limits import NONE, Concurrency, Limits
from tests.simulation.stores import WorldStore

# Of all runs, of all with an even number or all others, and of each flow by itself.
KEYS = {"all": "'all'", "pair": "event.data.of % 2 == 0", "own": None}
# What a release lets in at once; one that it does not name it does not declare.
RELEASES: tuple[Mapping[str, int], ...] = (
    {"all": 1, "pair": 1, "own": 1},
    {"all": 2, "pair": 1, "own": 3},
    {"all": 1, "pair": 2, "own": 1},
    {"all": 3, "pair": 1, "own": 2},
    {"all": 1, "own": 2},
    {"pair": 1},
    {},
)
SLOTS = "SELECT gate, 'slot', CAST(no AS varchar), run_id || branch FROM flows_slots WHERE run_id IS NOT NULL"
TURNS = """
SELECT {gate}, 'turn', id, '' FROM flows_runs WHERE status = 'running' AND {gate} IS NOT NULL
UNION ALL SELECT {gate}, 'turn', run_id, path FROM flows_branches WHERE status = 'running' AND {gate} IS NOT NULL
"""
LEFT_BEHIND = """
SELECT s.gate, s.run_id, s.branch FROM flows_slots s JOIN flows_runs r ON r.id = s.run_id
LEFT JOIN flows_branches b ON b.run_id = s.run_id AND b.path = s.branch
WHERE CASE WHEN s.branch = '' THEN r.ended_at ELSE b.ended_at END IS NOT NULL
"""
# A throttle's line begins with a 0: that is none of a gate.
LINES = """
SELECT gate, (SELECT count(*) FROM flows_slots s WHERE s.gate = q.gate AND s.run_id IS NOT NULL)
FROM (SELECT DISTINCT gate FROM flows_queue WHERE gate >= '1') AS q
"""
Inside = tuple[str, ...]


def limits_of(names: Iterable[str], release: int) -> Limits:
    """The limits of a program with these names, in a release."""
    numbers = RELEASES[release % len(RELEASES)]
    declared = (
        Concurrency(numbers[name], key=KEYS[name], scope="flow" if KEYS[name] is None else "app")
        for name in names
        if name in numbers
    )
    return Limits(concurrency=found) if (found := tuple(declared)) else NONE


class Doorman:
    """Looks after each action: who came in while a gate had more inside than its limit allows, was one too many.

    Who has a slot is inside. As long as no limit has changed, so is whoever works: a turn may begin long after its unit
    was let in, by a limit that was larger then, or not there."""

    def __init__(self, store: WorldStore) -> None:
        self._store = store
        self._catalog = Catalog(0)
        self._inside: set[Inside] = set()
        self._book: GateBook | None = None
        self._has_changed = False

    def look(self) -> str | None:
        """What is wrong; None when all is well. A limit that changed meanwhile counts as the larger of both."""
        with self._store.unlinked() as connection:
            book = self._catalog.read(connection).gates
            before = self._book or book
            self._has_changed = self._has_changed or before.numbers != book.numbers
            found: list[tuple[Any, ...]] = connection.execute(SLOTS)
            for gate in () if self._has_changed else ("g1", "g2"):
                found += connection.execute(TURNS.replace("{gate}", gate))
        inside: set[Inside] = {tuple(row) for row in found}
        many = Counter(one[:2] for one in inside)
        for one in sorted(inside - self._inside):
            most = max(known.numbers.get(limit_of(one[0]), float("inf")) for known in (before, book))
            if many[one[:2]] > most:
                return f"{one} makes {many[one[:2]]} inside, at most {most}"
        self._inside, self._book = inside, book
        return None

    def left_behind(self) -> str | None:
        """Who has ended and holds a slot; None when nobody does."""
        with self._store.unlinked() as connection:
            found = connection.execute(LEFT_BEHIND)
        return f"{found[0]} has ended and holds a slot" if found else None

    def idle(self) -> str | None:
        """A gate at which somebody waits beside a free slot; None when there is none."""
        with self._store.unlinked() as connection:
            numbers = self._catalog.read(connection).gates.numbers
            lines = connection.execute(LINES)
        for gate, occupied in lines:
            if occupied < numbers.get(limit_of(gate), float("inf")):
                return f"somebody waits at {gate}, where {occupied} are inside"
        return None
