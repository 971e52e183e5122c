"""What a round of chaos found: broken promises by their column, and the figures of the report."""

from collections.abc import Iterable
from dataclasses import dataclass, field

LOST, DOUBLED, CHANGED, EXCEEDED, LEAKED, STUCK = "lost", "doubled", "changed", "exceeded", "leaked", "stuck"
COLUMNS = (LOST, DOUBLED, CHANGED, EXCEEDED, LEAKED, STUCK)


@dataclass(slots=True)
class Findings:
    """Broken promises in words, by column."""

    found: dict[str, list[str]] = field(default_factory=lambda: {column: [] for column in COLUMNS})

    def add(self, column: str, words: Iterable[str]) -> None:
        """These were broken."""
        self.found[column] += words

    @property
    def all(self) -> list[str]:
        """Each with its column."""
        return [f"{column}: {words}" for column, some in self.found.items() for words in some]

    def count(self, column: str) -> int:
        """How many."""
        return len(self.found[column])


@dataclass(frozen=True, slots=True)
class Round:
    """One round: `recovered` is the seconds from the end of the fault until all had ended, `zombies` bodies that a
    worker which had lost its run began or ended, `ended` the last words of workers that ended by themselves."""

    store: str
    fault: str
    seed: int
    runs: int
    recovered: float
    zombies: int
    ended: tuple[str, ...]
    findings: Findings


def table(rounds: list[Round]) -> str:
    """The report, a line for each fault and store."""
    heads = ["fault", "store", "rounds", "runs", *COLUMNS, "seconds to recover"]
    lines = [heads, ["---"] * len(heads)]
    groups: dict[tuple[str, str], list[Round]] = {}
    for one in rounds:
        groups.setdefault((one.fault, one.store), []).append(one)
    for (fault, store), some in groups.items():
        counts = [str(sum(one.findings.count(column) for one in some)) for column in COLUMNS]
        took = sorted(one.recovered for one in some)
        seconds = f"{took[0]:.1f}" if len(took) == 1 else f"{took[0]:.1f} to {took[-1]:.1f}"
        lines.append([fault, store, str(len(some)), str(sum(one.runs for one in some)), *counts, seconds])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
