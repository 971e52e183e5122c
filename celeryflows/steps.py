"""The step tools of a sync flow, `ctx.step`: a thin edge over the turn's journal."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, Self

from celeryflows.durations import Duration
from celeryflows.errors import LostTurn, StepError, Suspend, TurnCancelled
from celeryflows.model.events import Event
from celeryflows.model.retries import BackoffRule
from celeryflows.model.signals import Signal
from celeryflows.model.step_options import PLAIN, StepOptions, read_options


@dataclass(frozen=True, slots=True)
class Value:
    """The step has a value."""

    value: Any


@dataclass(frozen=True, slots=True)
class Failed:
    """The step's attempts are spent."""

    error: StepError


@dataclass(frozen=True, slots=True)
class Parked:
    """The step goes on in a later turn."""


Result = Value | Failed | Parked
SIGNALS = (Suspend, LostTurn, TurnCancelled)


@dataclass(frozen=True, slots=True)
class WaitRequest:
    """What `wait_for_event` was asked."""

    event: str
    timeout: Duration
    match: str | None
    if_exp: str | None
    lookback: str


@dataclass(frozen=True, slots=True)
class SignalRequest:
    """What `wait_for_signal` was asked."""

    name: str
    timeout: Duration
    on_conflict: str


class Slot(Protocol):
    """One use of a step id in this turn."""

    @property
    def result(self) -> Result | None:
        """What is remembered of it, None when it has to run."""
        ...

    @property
    def body(self) -> Callable[..., Any]:
        """What has to run."""
        ...

    def __enter__(self) -> object: ...
    def __exit__(self, *exc: object) -> None: ...


class Journal(Protocol):
    """Remembers and records. Each call gives a Result; the edges below turn it into a value, an error or a pause."""

    def check_options(self, tool: str, id: str, options: StepOptions) -> None:
        """End the run when the tool does not take one of the options."""
        ...

    def open(self, id: str, fn: Callable[..., Any], options: StepOptions) -> Slot:
        """Look a step up, or open it for its attempt."""
        ...

    def open_transaction(self, id: str, fn: Callable[..., Any], options: StepOptions) -> Slot:
        """Look a transaction up, or open it for its attempt; its body commits."""
        ...

    def succeeded(self, slot: Any, raw: Any) -> Result:
        """Record the attempt's value."""
        ...

    def transacted(self, slot: Any, done: Any) -> Result:
        """Take note of the attempt's commit."""
        ...

    def failed(self, slot: Any, error: Exception) -> Result:
        """Record or plan what follows a failed attempt."""
        ...

    def abandoned(self, slot: Any) -> None:
        """The attempt was cancelled by the handler's own asyncio: nothing of it is recorded."""
        ...

    def sleep(self, id: str, duration: Duration) -> Result:
        """Sleep for a duration."""
        ...

    def sleep_until(self, id: str, when: datetime | str) -> Result:
        """Sleep until a moment."""
        ...

    def wait(self, id: str, request: WaitRequest) -> Result:
        """Wait for an event."""
        ...

    def send(self, id: str, events: Sequence[Event]) -> Result:
        """Send events once."""
        ...

    def wait_for_signal(self, id: str, request: SignalRequest) -> Result:
        """Wait for a signal."""
        ...

    def invoke(self, id: str, flow: Any, data: Any, timeout: Duration, options: StepOptions) -> Result:
        """Start another flow's run and wait for its end."""
        ...

    def task(self, id: str, signature: Any, timeout: Duration | None, options: StepOptions) -> Result:
        """Send an existing task out and wait for its end."""
        ...

    def canvas(self, signature: Any) -> Result:
        """Run a canvas whose members stand under their own names."""
        ...

    def continue_as_new(self, data: Any) -> Result:
        """End the run; another goes on."""
        ...

    def pause(self) -> None:
        """Leave a sync handler: raises Suspend."""
        ...

    async def park(self) -> Any:
        """Stay in an async handler, not to be resumed in this turn."""
        ...

    def give_up(self, signal: BaseException) -> None:
        """A signal of the engine ended the turn."""
        ...


class BoundSteps:
    """What both faces have: the turn's journal, and the options that `using` gave."""

    def __init__(self, journal: Journal, options: StepOptions = PLAIN) -> None:
        self._journal = journal
        self._options = options

    def using(
        self,
        *,
        retries: int | None = None,
        backoff: BackoffRule | None = None,
        timeout: Duration | None = None,
        output_type: Any = None,
        cancel_with_parent: bool | None = None,
    ) -> Self:
        """The same tools with options, put on top of those they have.

        `retries` 0 to 20 and `backoff` (a Backoff, or a function `attempt -> timedelta`) in place of the flow's.
        `timeout`, a duration: an attempt that outlives it fails, and with the last one the step fails as StepTimeout;
        a coroutine is cancelled, any other body is left running in its thread and its value is dropped.
        `output_type`: a pydantic model, a dataclass, or a type of them; the value is checked when it is recorded and
        comes back as that type. `cancel_with_parent` is for `invoke`. Raises StepMisuse for a value that cannot be;
        so does a tool that does not take an option.
        """
        options = read_options(
            self._options,
            retries=retries,
            backoff=backoff,
            timeout=timeout,
            output_type=output_type,
            cancel_with_parent=cancel_with_parent,
        )
        return type(self)(self._journal, options)

    def _for(self, tool: str, id: str) -> Journal:
        """The journal for a tool that takes no options, or only some."""
        if self._options is not PLAIN:
            self._journal.check_options(tool, id, self._options)
        return self._journal


class Steps(BoundSteps):
    """The step tools of a sync flow. A step id used twice becomes `id`, `id:1`, ... in order."""

    def run(self, id: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call `fn(*args, **kwargs)` once and remember its value.

        Errors are retried by the step's own counter; spent, StepError is raised. The value is the stored form: a
        tuple is a list at once. A Celery task as `fn` is called in place.
        """
        slot = self._for("run", id).open(id, fn, self._options)
        return self._attempt(slot, self._journal.succeeded, args, kwargs)

    def transaction(self, id: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call `fn(connection, *args, **kwargs)` in a transaction on the store's database; exactly once.

        What it writes and the record of its value commit together. `connection` is a SQLAlchemy Connection, or a
        Session where `fn`'s first parameter is annotated as one; the commit is the step's. An error rolls back and
        is retried as that of `run`. Keep it short: on SQLite nobody else writes meanwhile.
        """
        slot = self._for("transaction", id).open_transaction(id, fn, self._options)
        return self._attempt(slot, self._journal.transacted, args, kwargs)

    def sleep(self, id: str, duration: Duration) -> None:
        """Sleep for a duration such as "3 days", at most 366 days. Holds no worker."""
        self._take(self._for("sleep", id).sleep(id, duration))

    def sleep_until(self, id: str, when: datetime | str) -> None:
        """Sleep until an aware datetime or ISO text with a zone; a moment that is past returns at once."""
        self._take(self._for("sleep_until", id).sleep_until(id, when))

    def wait_for_event(
        self,
        id: str,
        *,
        event: str,
        timeout: Duration,
        match: str | None = None,
        if_exp: str | None = None,
        lookback: str = "step",
    ) -> Event | None:
        """Wait for the first event of a name; the Event, or None at the timeout.

        `match="data.x"` asks that `event.data.x == async.data.x`; `if_exp` is a condition over `event` (the trigger)
        and `async` (the arriving one); not both. `lookback`: arrivals count from the start of the step before
        ("step", the default), from this wait on ("wait"), from the run's start ("run"), or a duration back.
        Raises ExpressionError for a bad condition or a null match value.
        """
        request = WaitRequest(event, timeout, match, if_exp, lookback)
        found: Event | None = self._take(self._for("wait_for_event", id).wait(id, request))
        return found

    def send_event(self, id: str, events: Event | Sequence[Event]) -> list[str]:
        """Send events once over any number of replays; our ids, in order."""
        ids: list[str] = self._take(self._for("send_event", id).send(id, as_list(events)))
        return ids

    def wait_for_signal(self, id: str, name: str, *, timeout: Duration, on_conflict: str = "fail") -> Signal | None:
        """Wait for `flows.signal(name, data)`; None at the timeout, at most 366 days.

        One run waits for a name: where one does already, `on_conflict="fail"` raises StepError, "replace" takes its
        place, and that one gets None. Signals that came before the wait do not count.
        """
        request = SignalRequest(name, timeout, on_conflict)
        found: Signal | None = self._take(self._for("wait_for_signal", id).wait_for_signal(id, request))
        return found

    def invoke(self, id: str, flow: Any, data: Any = None, timeout: Duration = "365 days") -> Any:
        """Start a run of another flow, once, and wait for its value.

        `flow` is a flow's task, or its name also where another service has its code. `data` is a mapping, a model, an
        Event or any other value, as `.delay()` takes it. Raises InvokeError when the run fails, is cancelled or
        skipped, or cannot be started, and InvokeTimeout at the timeout: the run goes on then. It also goes on when
        this run is cancelled, but with `using(cancel_with_parent=True)`.
        """
        return self._take(self._for("invoke", id).invoke(id, flow, data, timeout, self._options))

    def task(self, id: str, signature: Any, timeout: Duration | None = None) -> Any:
        """Run existing Celery tasks on their own queues and workers, and wait for the value.

        `signature` is Celery's: `send_email.s(address)`, or a chain, group or chord, each member of which is a step
        `id/task`. A task's own retries, time limits and routing hold, and its workers need nothing of ours. It is sent
        once the run sleeps; one that was lost, or whose worker was killed, is sent again under the same id. `timeout`
        is a duration of at most 366 days, for the whole canvas. Raises StepError with the task's error, and StepTimeout
        at the timeout: what has not begun is revoked then, as it is when this run is cancelled.
        """
        return self._take(self._for("task", id).task(id, signature, timeout, self._options))

    def _canvas(self, signature: Any) -> Any:
        return self._take(self._journal.canvas(signature))

    def _continue_as_new(self, data: Any) -> None:
        self._take(self._journal.continue_as_new(data))

    def _attempt(
        self, slot: Slot, settle: Callable[[Any, Any], Result], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if slot.result is not None:
            return self._take(slot.result)
        try:
            with slot:
                raw = slot.body(*args, **kwargs)
        except Exception as error:
            return self._take(self._journal.failed(slot, error))
        return self._take(settle(slot, raw))

    def _take(self, result: Result) -> Any:
        if isinstance(result, Value):
            return result.value
        if isinstance(result, Failed):
            raise result.error
        self._journal.pause()
        raise AssertionError("a pause raises")


def as_list(events: Event | Sequence[Event]) -> list[Event]:
    """One event or several."""
    return [events] if isinstance(events, Event) else list(events)
