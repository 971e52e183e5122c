"""What was found: a place, why it would gain, and the lines to change."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Change:
    """Lines that are there, and those that stand in their place."""

    file: str
    line: int
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Gain:
    """One place that would gain. `task` is a registered name, where one is known; `imports` are names of ours."""

    kind: str
    file: str
    line: int
    code: str
    task: str | None
    why: str
    change: Change | None = None
    imports: tuple[str, ...] = ()
