"""Whether what clients saw at once could have been seen one after the other: a checker of linearizability.

It looks for an order of all calls that the model allows and that keeps calls apart which did not overlap
(Wing and Gong 1993, with the memory of states of Lowe 2017)."""

import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

# A state of the model, and what a call gives there.
Model = Callable[[Any, "Call"], tuple[Hashable, Any]]
NEVER = float("inf")


class Unknown:
    """What a call gives whose client never heard of its end."""


@dataclass(frozen=True)
class Call:
    """One client's call on one object: what it gave, and between which moments of the machine's monotonic clock."""

    on: str
    verb: str
    word: Any = None
    gave: Any = Unknown
    began: float = 0.0
    ended: float = NEVER


@dataclass
class Recorder:
    """What one client did. A call that raises keeps its place: it may have happened or not."""

    calls: list[Call] = field(default_factory=list)

    @contextmanager
    def calling(self, on: str, verb: str, word: Any = None) -> Iterator[Callable[[Any], None]]:
        """Within this block the call is made; it is told what the call gave."""
        call = Call(on, verb, word, began=time.monotonic())
        place = len(self.calls)
        self.calls.append(call)
        yield lambda gave: self.calls.__setitem__(place, replace(call, gave=gave, ended=time.monotonic()))


def unlinear(calls: Iterable[Call], start: Hashable, model: Model) -> list[Sequence[Call]]:
    """The histories of those objects for which there is no such order."""
    objects: dict[str, list[Call]] = {}
    for call in calls:
        objects.setdefault(call.on, []).append(call)
    return [history for history in objects.values() if not _has_order(history, start, model)]


def _has_order(history: list[Call], start: Hashable, model: Model) -> bool:
    calls = sorted(history, key=lambda call: call.began)
    known = (1 << len(calls)) - 1 & ~sum(1 << i for i, call in enumerate(calls) if call.gave is Unknown)
    seen: set[tuple[int, Hashable]] = set()
    stack: list[tuple[int, Hashable]] = [(0, start)]
    while stack:
        done, state = stack.pop()
        if done & known == known:
            return True
        for place in _next(calls, done):
            after, gave = model(state, calls[place])
            step = (done | 1 << place, after)
            if calls[place].gave in (Unknown, gave) and step not in seen:
                seen.add(step)
                stack.append(step)
    return False


def _next(calls: list[Call], done: int) -> Iterator[int]:
    """Calls that may be the next: they began before any other ended that is left."""
    left = [i for i in range(len(calls)) if not done >> i & 1]
    first_end = min(calls[i].ended for i in left)
    return (i for i in left if calls[i].began <= first_end)
