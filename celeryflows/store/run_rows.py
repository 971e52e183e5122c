"""How runs stand, as the store tells it."""

from dataclasses import dataclass
from typing import Literal

from celeryflows.model.runs import carrying_id


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run stands, for its handle and for a message that came too late."""

    id: str
    flow: str
    status: str
    turn: int
    token: int | None
    output: str | None
    error: str | None
    reason: str | None
    event_id: str
    started_at: int | None
    ended_at: int | None
    message: str | None
    parent: str | None
    continued_from: str | None
    continued_as: str | None
    owes: str | None
    batch: int | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """A running run or branch, and the turn that holds it; `carrier`: what carries that turn, the branch
    whose message does, '' for the run's own, or a message of several runs."""

    id: str
    turn: int
    worker: str
    token: int
    path: str = ""
    carrier: str = ""

    @property
    def carrying_id(self) -> str:
        """The id of what it came by."""
        return carrying_id(self.id, self.carrier)


Bound = Literal["expires_at", "finish_by"]


@dataclass(frozen=True, slots=True)
class CancelledRow:
    """A run that was cancelled just now. `was_running`: a turn of it may be at work; `owes`: others are to be told."""

    id: str
    flow: str
    message: str | None
    event_id: str
    turn: int
    was_running: bool
    owes: str | None
    is_limited: bool = False
