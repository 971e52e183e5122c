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
INSIDE = """
SELECT s.gate, 'slot', CAST(s.no AS varchar), s.run_id || s.branch FROM flows_slots s WHERE s.run_id IS NOT NULL
UNION ALL SELECT {gate}, 'turn', id, '' FROM flows_runs WHERE status = 'running' AND {gate} IS NOT NULL
UNION ALL SELECT {gate}, 'turn', run_id, path FROM flows_branches WHERE status = 'running' AND {gate} IS NOT NULL
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
    """Looks after each action: who came in while a gate had more inside than its limit allows, was one too many."""

    def __init__(self, store: WorldStore) -> None:
        self._store = store
        self._catalog = Catalog(0)
        self._inside: set[Inside] = set()
        self._book = GateBook()

    def look(self) -> str | None:
        """What is wrong; None when all is well. A limit that changed meanwhile counts as the larger of both."""
        with self._store.unlinked() as connection:
            book = self._catalog.read(connection).gates
            found: list[tuple[Any, ...]] = []
            for gate in ("g1", "g2"):
                found += connection.execute(INSIDE.replace("{gate}", gate))
        inside: set[Inside] = {tuple(row) for row in found}
        many = Counter(one[:2] for one in inside)
        crowded = next((one for one in sorted(inside - self._inside) if many[one[:2]] > self._most(book, one[0])), None)
        self._inside, self._book = inside, book
        return None if crowded is None else f"{crowded} makes {many[crowded[:2]]} inside, more than its limit"

    def _most(self, book: GateBook, gate: str) -> float:
        return max(one.numbers.get(limit_of(gate), float("inf")) for one in (self._book, book))
