"""What the handlers of all turns tell: bodies run, values given, moments reached. It holds them to their promises."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.plain import Seen


@dataclass
class Signalled:
    """A signal that was sent. `told`: the run that took it, or None, as its sender was told; empty when it was not."""

    name: str
    at: int
    told: list[str | None] = field(default_factory=list)


class Ledger:
    """What was seen, by run and step key. Times in microseconds of the world's clock."""

    def __init__(self) -> None:
        self.seen: defaultdict[str, dict[str, Seen]] = defaultdict(dict)
        self.bodies: Counter[tuple[str, str]] = Counter()
        self.reached: dict[tuple[str, str], int] = {}
        self.began: dict[tuple[str, str], int] = {}
        self.before: dict[tuple[str, str], tuple[str, ...]] = {}
        self.given_at: dict[tuple[str, str], int] = {}
        self.disturbed: Counter[str] = Counter()
        # How runs stood before they were claimed with the end of another, by that claim's token.
        self.stood: dict[int, list[Any]] = {}
        self._kept: dict[tuple[str, str], list[Any]] = {}
        self.signals: list[Signalled] = []
        self.given_events: dict[str, list[int]] = {}
        self._ended: set[str] = set()
        self.tripped: list[str] = []
        self._executed: Counter[str] = Counter()

    def reach(self, run: str, key: str, before: tuple[str, ...], now: int) -> None:
        """The handler comes to a step, after another one, none, or those of its branches."""
        self.reached.setdefault((run, key), now)
        self.before[run, key] = before

    def give(self, run: str, events: list[int]) -> None:
        """The handler is given its events; the same in every turn."""
        if (first := self.given_events.setdefault(run, events)) != events:
            self.trip(f"{run} was given the events {first} and later {events}")

    def begin(self, run: str, key: str, now: int) -> int:
        """A step's body runs; its number, from 0."""
        number = self.bodies[run, key]
        self.bodies[run, key] += 1
        self.began[run, key] = now
        return number

    def execute(self, task_id: str) -> int:
        """A task of elsewhere is done; how often it was before."""
        self._executed[task_id] += 1
        return self._executed[task_id] - 1

    def see(self, run: str, key: str, seen: Seen, now: int) -> None:
        """The handler is given what a step ended with; the same in every turn."""
        first = self.seen[run].setdefault(key, seen)
        self.given_at.setdefault((run, key), now)
        if first != seen:
            self.trip(f"step {key} of {run} gave {first} and later {seen}")

    def remember(self, recorded: list[tuple[Any, ...]], ended: list[tuple[Any, ...]]) -> None:
        """What is recorded, and how runs ended: it never changes, and nothing is recorded of what has ended."""
        for run, key, *kept in (*recorded, *ended):
            if run in self._ended and (run, key) not in self._kept:
                self.trip(f"{key} of {run} was recorded as {kept} after the run's end")
            first = self._kept.setdefault((run, key), kept)
            if first != kept:
                self.trip(f"{key} of {run} was recorded as {first} and is now {kept}")
        self._ended = {row[0] for row in ended}

    def check_sleepers(self, answered: list[tuple[Any, ...]]) -> None:
        """Waits of suspended runs that are answered: their handlers have heard of it already."""
        for run, key in answered:
            if key not in self.seen[run]:
                self.trip(f"{run} sleeps though its wait {key} is answered")

    def trip(self, what: str) -> None:
        """A promise is broken: kept for the end, for a handler may catch what is raised here."""
        self.tripped.append(what)

    def check(self) -> None:
        """Raise AssertionError for the first promise that was broken."""
        assert not self.tripped, self.tripped[0]


def plain_value(value: Any) -> Any:
    """A step's value without the number of its execution."""
    return value[:2] if isinstance(value, list) else value
