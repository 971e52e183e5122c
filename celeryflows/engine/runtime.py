"""What the engine is given: store, clock, settings, the declared flows, and the socket that Celery plugs into."""

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from celeryflows.clock import Clock, SystemClock
from celeryflows.engine.callers import Callers, CallersTransaction
from celeryflows.engine.catalog import Catalog
from celeryflows.engine.settings import Settings
from celeryflows.errors import ConfigurationError
from celeryflows.ids import new_id
from celeryflows.middleware import Middleware
from celeryflows.model.canvases import Node
from celeryflows.model.events import Event, StoredEvent
from celeryflows.model.flows import FlowDefinition
from celeryflows.model.output_types import OutputType
from celeryflows.model.remote_tasks import Outcome, Parcel, SentTask, TaskCall
from celeryflows.model.retries import RetryPolicy
from celeryflows.model.runs import Delivery
from celeryflows.store.branches import Unit
from celeryflows.store.database import Store
from celeryflows.store.runs import Claim

Handler = Callable[[Any], Any]


LetGo = Callable[[Sequence[Delivery]], None]


class Postponed(Protocol):
    """Messages that wait a moment, for what their sender may take on itself."""

    def add(self, deliveries: Sequence[Delivery]) -> None:
        """They wait."""
        ...

    def begin(self, path: str) -> bool:
        """The unit at this path is taken on: its message is not sent; False when it was."""
        ...

    def release(self) -> None:
        """Send what is left."""
        ...


class Dispatcher(Protocol):
    """The way to Celery. Nothing here raises: what does not get through, recovery sends again."""

    def send_runs(self, deliveries: Sequence[Delivery]) -> None:
        """One message for each run that may start."""
        ...

    def postpone(self, let_go: LetGo) -> Postponed:
        """For messages that are sent only if their work takes longer than a moment; `let_go` is called before with what
        is left, which may be nothing, in any thread."""
        ...

    def run_suspended(self, run_id: str) -> bool:
        """Tell who asks for the Celery result that the run sleeps or waits; False when nobody can ask."""
        ...

    def run_cancelled(self, run_id: str, reason: str, message: str | None = None) -> None:
        """Tell who asks for the Celery result that none will come; `message` names the canvas that waits for it."""
        ...

    def run_continues(self, run_id: str, message: str | None) -> str | None:
        """Tell who asks for the Celery result that another run goes on for this one; the message of that one."""
        ...

    def run_failed(self, run_id: str, error: Exception, message: str | None = None) -> None:
        """Tell who asks for the Celery result of a run that failed outside a turn."""
        ...

    def terminate(self, task_id: str) -> None:
        """End the Celery task of that id, which is at work on a cancelled run or branch, wherever it is."""
        ...


class Alarm(Protocol):
    """Wakes what the leader may hear of too late. Nothing hangs on it: whom it does not wake, the leader does."""

    def set(self, unit: Unit, in_us: int) -> None:
        """A unit that was suspended just now is due in so many microseconds."""
        ...


class Tasks(Protocol):
    """Existing Celery tasks that runs send out and wait for. What can get lost is looked for by recovery.

    `in_place`: there is no worker; whoever sends calls the task.
    """

    @property
    def in_place(self) -> bool: ...
    def read(self, id: str, signature: Any) -> Node:
        """What a step was given. Raises TypeError, with the remedy, for what is no signature and no canvas."""
        ...

    def pack(self, call: TaskCall) -> Parcel:
        """The call as it is stored. Raises NotStorable for arguments that have no JSON form."""
        ...

    def call(self, task: SentTask) -> str:
        """Call the task here; the JSON of its value. Raises what it raises, NotStorable, and LookupError for a task
        that this process does not know."""
        ...

    def send(self, tasks: Sequence[SentTask]) -> None:
        """One message for each. Never raises."""
        ...

    def revoke(self, task_ids: Sequence[str]) -> None:
        """Nobody waits for them any more: those that have not begun are dropped, as far as workers hear it."""
        ...

    def call_errbacks(self, call: TaskCall, task_id: str, told: str) -> None:
        """Tell the errbacks of a chord's body, which is not sent, why. Never raises."""
        ...

    def outcome(self, task_id: str) -> Outcome | None:
        """How it ended, as the result backend has it; None when that knows no end, or does not answer."""
        ...

    def missing(self, tasks: Sequence[SentTask]) -> set[str]:
        """The ids of those that no queue can have and no worker has, as far as all of them answer."""
        ...


class Queues(Protocol):
    """The broker's queues, for people who look: nothing of the engine hangs on the answers, and nothing here raises."""

    def queue_of(self, delivery: Delivery) -> str:
        """The queue that a run's message goes to."""
        ...

    def lengths(self, queues: Collection[str]) -> Mapping[str, int | None]:
        """How many messages each has that no worker has taken; None where the broker cannot tell."""
        ...


class Schemas(Protocol):
    """Registered payload models."""

    def check(self, event: Event, index: int) -> Any:
        """The data to store; raises InvalidEvent with the field errors."""
        ...

    def read(self, event: StoredEvent) -> Event:
        """The event as handlers see it, its data as the registered model."""
        ...


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow that this process can run: its definition, handler, retry policy, and the type that its value must fit.

    `again`: of a Celery task, when its body is tried again after an error, in microseconds from now; None: never. The
    policy is then that of its steps alone. `record_inputs`: what its steps are called with; None: as the settings say.
    """

    definition: FlowDefinition
    handler: Handler
    policy: RetryPolicy
    is_async: bool = False
    output_type: OutputType | None = None
    again: Callable[[BaseException, int], int | None] | None = None
    record_inputs: bool | None = None

    @property
    def name(self) -> str:
        """The flow's identity."""
        return self.definition.name


class Interceptor(Protocol):
    """Stands between runs and their steps; a test kit stubs, counts and crashes here."""

    def body(self, claim: Claim, key: str, fn: Handler) -> Handler:
        """What is called as the body of the step, in place of `fn`."""
        ...

    def has_stub(self, claim: Claim, key: str) -> bool:
        """True when something stands in place of the step."""
        ...

    def committed(self, claim: Claim, key: str) -> None:
        """The step's value, failure or attempt is committed."""
        ...


class NoAlarm:
    """An engine whose leader hears of all that is due."""

    def set(self, unit: Unit, in_us: int) -> None:
        """Nobody has to be woken."""


class NoTasks:
    """An engine without Celery: it has no tasks to send."""

    in_place = True

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise ConfigurationError("this engine has no Celery app, whose tasks step.task could send")

    read = pack = call = send = revoke = call_errbacks = outcome = missing = _refuse


class NoQueues:
    """An engine without a broker."""

    def queue_of(self, delivery: Delivery) -> str:
        """One for all."""
        return "celery"

    def lengths(self, queues: Collection[str]) -> Mapping[str, int | None]:
        """Nobody can tell."""
        return dict.fromkeys(queues)


@dataclass(slots=True)
class Runtime:
    """One process's engine. `app` names the Celery app; `worker` is new at each process start, never a host's name.

    `carries`: a delivery takes on branches that it opens and nobody else has; else each has its message at once.
    `callers`: the framework that keeps its callers' transactions, where there is one.
    """

    app: str
    store: Store
    dispatcher: Dispatcher
    schemas: Schemas
    flows: Mapping[str, Flow]
    settings: Settings = field(default_factory=Settings)
    clock: Clock = field(default_factory=SystemClock)
    worker: str = field(default_factory=new_id)
    dice: Callable[[], float] = random.random
    catalog: Catalog = field(default_factory=Catalog)
    interceptor: Interceptor | None = None
    carries: bool = True
    middleware: Sequence[Middleware] = ()
    tasks: Tasks = field(default_factory=NoTasks)
    queues: Queues = field(default_factory=NoQueues)
    callers: Callers | None = None
    alarm: Alarm = field(default_factory=NoAlarm)

    @property
    def around(self) -> CallersTransaction | None:
        """The caller's own transaction that is open around the calling code."""
        return self.callers.open_here(self.store) if self.callers is not None else None
