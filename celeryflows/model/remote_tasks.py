"""Existing Celery tasks as steps: what a run sends out, and what is known of it later. Frozen values, no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from celeryflows.model.runs import Delivery


@dataclass(frozen=True, slots=True)
class TaskCall:
    """One signature: the task's name, its arguments and Celery's own sending options.

    `immutable`: it takes nothing of what came before it. `label` is its short name, for the ids of a canvas's members.
    """

    name: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    immutable: bool = False
    label: str = ""

    def given(self, value: Any) -> "TaskCall":
        """The call with what came before it in front of its arguments."""
        if self.immutable:
            return self
        return TaskCall(self.name, (value, *self.args), self.kwargs, self.options, self.immutable, self.label)


@dataclass(frozen=True, slots=True)
class Parcel:
    """A call as it is stored and sent: its text, and the queue that its message goes to ('' when nobody can tell)."""

    text: str
    queue: str = ""


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to send when the turn suspends. `place` is where it stands in its canvas, '' for a signature alone."""

    id: str
    key: str
    parcel: Parcel
    began: int
    place: str = ""


@dataclass(frozen=True, slots=True)
class SentTask:
    """A task under way. `flow` and `message` tell which queue the answer comes by; times in microseconds.

    `wait` is how the run's wait for it stands; `age` how long ago it was sent, for the `sends`-th time; `overtaken`: a
    later one of its queue has answered.
    """

    id: str
    run_id: str
    key: str
    queue: str
    text: str
    flow: str
    message: str | None
    sent_at: int = 0
    sends: int = 1
    age: int = 0
    wait: str = "open"
    overtaken: bool = False

    @property
    def delivery(self) -> Delivery:
        """The message of its run, by whose queue the answer comes."""
        return Delivery(self.run_id, self.flow, self.message)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended: the JSON of its value, or its error."""

    value: str | None = None
    error: str | None = None
