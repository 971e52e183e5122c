"""A step's kinds, ids and memo: what a run remembers of it."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from celeryflows.errors import BoundExceeded, StepMisuse
from celeryflows.model.events import StoredEvent

ID_BOUND = 256
KEY_BOUND = 512
# How the steps of a group's branches are named.
_IN_BRANCH = re.compile(r"group(\.[^/\[]*)?(:\d+)?\[\d+\]/")


class Kind(StrEnum):
    """What kind of step it is; a memo of another kind under the same id is an error."""

    RUN = "run"
    SLEEP = "sleep"
    WAIT = "wait"
    SEND = "send"
    INVOKE = "invoke"
    SIGNAL = "signal"
    TASK = "task"
    TRANSACTION = "transaction"
    PARALLEL = "parallel"
    RACE = "race"


# These hold no worker: the run sleeps, or waits for an event, a signal, another run, a task or its branches.
RESTING = frozenset({Kind.SLEEP, Kind.WAIT, Kind.INVOKE, Kind.SIGNAL, Kind.TASK, Kind.PARALLEL, Kind.RACE})


class State(StrEnum):
    """How far a step came. `late`: it ended after its run was cancelled; recorded, without effect. `edited`: it has
    not begun, and runs with other arguments than the handler's."""

    RETRYING = "retrying"
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"
    LATE = "late"
    EDITED = "edited"


@dataclass(frozen=True, slots=True)
class Memo:
    """What is recorded of one step. `value` is JSON; of a failed or retrying step the error as JSON.

    `settled_at`: when a wait was over: its event's arrival or its timeout, before any turn heard of it.
    `awaits`: the event's or signal's name, or the id of the invoked run or of the task. `wait`: how the step's wait
    stands. One that is closed was never answered: its run or branch has ended, and a turn that reads so gets no
    further.
    """

    key: str
    kind: str
    state: str
    attempts: int
    value: str | None
    began: int
    turn: int = 0
    due_at: int | None = None
    wait: str | None = None
    event: StoredEvent | None = None
    settled_at: int | None = None
    awaits: str | None = None


@dataclass(frozen=True, slots=True)
class Amount:
    """How many steps, and the bytes of their values."""

    steps: int
    bytes: int


class Memos(dict[str, Memo]):
    """What a run or a branch remembers, by key. `elsewhere`: what stands in other branches, None: not looked up."""

    elsewhere: Amount | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as it is stored and shown: the class's name, its text, the user's part of the traceback."""

    name: str
    message: str
    stack: str = ""
    step_id: str | None = None

    def json(self) -> dict[str, Any]:
        """As kept in the store and in `flows/run.failed`."""
        return {"name": self.name, "message": self.message, "stack": self.stack, "step_id": self.step_id}


def check_step_id(value: object) -> str:
    """Return the step id, or raise StepMisuse / BoundExceeded."""
    if not isinstance(value, str) or not value:
        raise StepMisuse(f"a step id is a text that is not empty, got {value!r}")
    if len(value) > ID_BOUND:
        raise BoundExceeded("step id", ID_BOUND, len(value), "Give the step a shorter id.")
    if "\0" in value or any("\ud800" <= c <= "\udfff" for c in value):
        raise StepMisuse("a step id holds NUL or a lone surrogate, which cannot be stored")
    head, colon, count = value.rpartition(":")
    if colon and head and count.isdecimal():
        raise StepMisuse(
            f"step id {value!r} ends in ':{count}', which is how repeated ids are numbered; choose another"
        )
    if "]/" in value and _IN_BRANCH.match(value):
        raise StepMisuse(f"step id {value!r} begins as the steps of a group's branches are named; choose another")
    return value


def check_key(key: str) -> str:
    """Return the key of a step's part. Raises BoundExceeded for one that is too long to store."""
    if len(key) > KEY_BOUND:
        raise BoundExceeded("key of a canvas's member", KEY_BOUND, len(key), "Give the step a shorter id.")
    return key


def branch_of(key: str) -> str:
    """The path of the branch that a step belongs to by its key, '' for the run itself."""
    return key[: len(key) - len(id_in_branch(key))].rstrip("/")


def id_in_branch(key: str) -> str:
    """A step's key without the path of the branch that it belongs to."""
    while (found := _IN_BRANCH.match(key)) is not None:
        key = key[found.end() :]
    return key
