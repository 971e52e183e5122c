"""A run's states and the only table of moves between them."""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """Where a run stands. `skipped` is a run too, so that a page can show why nothing happened."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    SUSPENDED = "suspended"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


MOVES: dict[Status, frozenset[Status]] = {
    Status.SCHEDULED: frozenset({Status.QUEUED, Status.CANCELLED, Status.SKIPPED}),
    Status.QUEUED: frozenset({Status.RUNNING, Status.CANCELLED, Status.FAILED}),
    Status.RUNNING: frozenset({Status.SUSPENDED, Status.QUEUED, Status.COMPLETED, Status.FAILED, Status.CANCELLED}),
    Status.SUSPENDED: frozenset({Status.QUEUED, Status.FAILED, Status.CANCELLED}),
    Status.COMPLETED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
    Status.SKIPPED: frozenset(),
}

ENDED = frozenset(status for status, moves in MOVES.items() if not moves)
OPEN = frozenset(MOVES) - ENDED


def may_move(old: Status, new: Status) -> bool:
    """True when the table allows the move."""
    return new in MOVES[old]


def sources(new: Status) -> frozenset[Status]:
    """The states from which a run may come to `new`."""
    return frozenset(old for old, moves in MOVES.items() if new in moves)


# In the headers of a run's message: the first of the line of runs that it goes on for.
FIRST = "flows_first"


@dataclass(frozen=True, slots=True)
class Delivery:
    """What one Celery message needs: the run, its flow, the run's own sending options as JSON; of a branch its path.

    `at_door`: it may not be sent before the unit has passed its gates; `alone`: nor in one message with others.
    """

    run_id: str
    flow: str
    message: str | None = None
    branch: str = ""
    at_door: bool = False
    alone: bool = False

    @property
    def task_id(self) -> str:
        """The message's id."""
        return task_id(self.run_id, self.branch)


def task_id(run_id: str, branch: str) -> str:
    """The id of a unit's messages: the run's own, or one of the branch's, so that it never speaks for the run."""
    return f"{run_id}/{branch}" if branch else run_id


def carrier_id(bundle: str, process: int) -> str:
    """What carries a turn that came with others' by one message: that message, in the process that has it."""
    return f"{bundle}:{process}"


def carrying_id(run_id: str, carrier: str) -> str:
    """The id of what carries a unit's turn: a message of its run's, whose units '' and branches are, or of several."""
    return task_id(run_id, carrier) if not carrier or "[" in carrier else carrier


def carrying_task(run_id: str, carrier: str) -> str:
    """The Celery task of what carries a unit's turn."""
    carrying = carrying_id(run_id, carrier)
    return carrying.rpartition(":")[0] if carrying == carrier else carrying


@dataclass(frozen=True, slots=True)
class Reached:
    """The limit that held a run back or skipped it: the option's name, and its key's value as canonical JSON."""

    limit: str
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """What a unit has of limits: its gates, the numbers of its slots there, where it is held (None: it may start) and
    its place in that line, its head start in microseconds; of a batch's run how many events it has."""

    g1: str | None = None
    g2: str | None = None
    n1: int | None = None
    n2: int | None = None
    held_at: str | None = None
    rank: int | None = None
    priority: int | None = None
    batch: int | None = None


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to write. Times in microseconds; `wake_at` of a scheduled one is its start.

    It is cancelled when it has not started at `expires_at`, or `start_within` its creation or that start. `event_name`
    is for lists, which look it up where it is None.
    """

    id: str
    flow: str
    version: str | None
    status: Status
    event_id: str
    message: str | None = None
    wake_at: int | None = None
    expires_at: int | None = None
    reason: str | None = None
    start_within: int | None = None
    place: Place | None = None
    reached: Reached | None = None
    event_name: str | None = None

    @property
    def delivery(self) -> Delivery:
        """Its message."""
        return Delivery(self.id, self.flow, self.message)

    @property
    def may_start(self) -> bool:
        """True when its message is to be sent."""
        return self.status is Status.QUEUED and (self.place is None or self.place.held_at is None)
