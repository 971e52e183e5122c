"""What a fault is, and how one is declared."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

EVERYWHERE = frozenset({"sqlite", "postgres", "mariadb"})
SERVERS = EVERYWHERE - {"sqlite"}


class NotHere(Exception):
    """The fault cannot be had on this machine or store; the message says why."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `room` is what it hurts: faults of one room never overlap. `strike(arena, load, dice)` does the harm
    and undoes it; `stores` are those on which it can be had."""

    name: str
    room: str
    strike: Callable[[Any, Any, Random], None]
    stores: frozenset[str] = EVERYWHERE


known: dict[str, Fault] = {}


def fault(name: str, room: str, stores: frozenset[str] = EVERYWHERE) -> Callable[[Any], Any]:
    """Declare a function as a fault."""

    def declare(strike: Any) -> Any:
        known[name] = Fault(name, room, strike, stores)
        return strike

    return declare
