"""The one table of all benchmarks: figure, ours, the peer's, their ratio, what is wanted, and whether it is met."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

HEAD = ("figure", "ours", "peer", "ratio", "wanted", "")


@dataclass(frozen=True, slots=True)
class Bound:
    """The ratio that is wanted."""

    value: float
    at_most: bool = False

    def holds(self, ratio: float) -> bool:
        """Whether a ratio is as wanted."""
        return ratio <= self.value if self.at_most else ratio >= self.value

    def __str__(self) -> str:
        return f"at {'most' if self.at_most else 'least'} {self.value:g}"


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison."""

    figure: str
    ours: str
    peer: str
    # Ours to the peer's; where there is no peer, what is wanted of ours itself. None when there is nothing to compare.
    ratio: float | None = None
    bound: Bound | None = None

    @property
    def met(self) -> bool:
        """False when a bound is not met, or could not be looked at."""
        return self.bound is None or (self.ratio is not None and self.bound.holds(self.ratio))

    @property
    def cells(self) -> tuple[str, ...]:
        """As it is printed."""
        met = "" if self.bound is None else ("met" if self.met else "NOT MET")
        return (
            self.figure,
            self.ours,
            self.peer,
            "" if self.ratio is None or not self.peer else f"{self.ratio:.2f}",
            "" if self.bound is None else str(self.bound),
            met,
        )


Lines = Sequence[Sequence[str]]


def table(rows: Iterable[Row], shown: Callable[[Lines], str] | None = None) -> str:
    """The rows in columns, under their heads."""
    return (shown or columns)([HEAD, *(row.cells for row in rows)])


def markdown(lines: Lines) -> str:
    """Cells as a table of Markdown."""
    head, *rest = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([head, "|" + "---|" * len(lines[0]), *rest])


def columns(lines: Lines) -> str:
    """Cells in columns as wide as their widest; the first line is the head, with a rule below."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    shown = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([shown[0], "  ".join("-" * width for width in widths), *shown[1:]])
