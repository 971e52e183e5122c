"""Many who enter many gates at once, with few statements. A gate without a free slot, or with several who come, is held
alone: that is known when a try has failed, which gives its locks back, for all are taken in one order."""

from collections.abc import Mapping
from dataclasses import dataclass

from celeryflows.store.branches import Unit
from celeryflows.store.connection import Connection


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Who comes to a gate, how many it lets in, and the gates that they have before them yet."""

    units: tuple[Unit, ...]
    number: int
    further: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entered:
    """The numbers of those who got a slot, by gate; and the gates that are held alone now."""

    numbers: Mapping[str, int]
    alone: frozenset[str] = frozenset()


def enter_together(tx: Connection, gates: Mapping[str, Arrivals]) -> Entered:
    """Lock all these gates, and take the slots that are free there. Nothing where one after the other is as well."""
    further = [gate for one in gates.values() for gate in one.further]
    # What is locked later has to stand behind all of these.
    if len(gates) < 2 or not tx.dialect.has_advisory_locks or min(further, default="~") <= max(gates):
        return Entered({})
    alone = {gate for gate, one in gates.items() if len(one.units) > 1}
    while True:
        tx.entries.lock([(gate, gate in alone) for gate in gates])
        asked = [(gate, one.number, one.units[0]) for gate, one in gates.items() if gate not in alone]
        numbers = tx.entries.take(asked) if asked else {}
        if len(numbers) == len(asked):
            return Entered(numbers, frozenset(alone))
        tx.entries.undo()
        alone |= {gate for gate, _, _ in asked} - numbers.keys()
