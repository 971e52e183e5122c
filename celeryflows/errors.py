"""Every error a user can meet, drawn as one tree; each message says what to do.

FlowsError
├── ConfigurationError       settings, wiring, an app that does not fit
│   └── DeclarationError     a flow, trigger or option that cannot be declared
├── InvalidEvent             an event that is refused; nothing of its list is stored
├── InvalidDuration          a duration or moment that cannot be read
├── ExpressionError          syntax, unknown name or function
├── NotStorable              a value that has no JSON form; names its path
├── InvalidOutput            a value that does not fit its output_type; names its fields
├── BoundExceeded            past a bound; names bound, size and setting
├── UnknownFlow, UnknownRun, UnknownEvent
├── RerunRefused             a rerun or replay that cannot be made as asked
├── StoreError
│   ├── StoreUnavailable     no answer; what was accepted is kept
│   ├── SchemaMismatch       older or newer than this code
│   ├── PayloadLocked        encrypted under a key that this app lacks
│   └── StoreMismatch        another store than the broker's
├── StepError                a step whose attempts are spent; catchable in the handler
│   ├── StepTimeout          its last attempt outlived using(timeout=...)
│   └── InvokeError          the invoked run failed, was cancelled or skipped, or could not be started
│       └── InvokeTimeout    it did not end in time, and goes on
├── StepMisuse               a step in a step, one id in flight twice, a wrong option: ends the run
├── NondeterminismError      a memo of another kind under the same id
├── RetryAfterError, NonRetriableError     raised by users to steer retries
└── RunFailed, RunCancelled, RunTimeout    raised by a handle's get()

Signals of the engine, BaseExceptions so that `except Exception` never swallows them: Suspend, LostTurn, TurnCancelled,
GaveUp.
"""

from datetime import datetime, timedelta


class FlowsError(Exception):
    """Root of all errors of celeryflows."""


class ConfigurationError(FlowsError):
    """The app, its settings or its wiring do not fit; the message names the remedy."""


class DeclarationError(ConfigurationError):
    """A flow, trigger or option that cannot be declared as written."""


class InvalidEvent(FlowsError, ValueError):
    """An event that is refused at `send`; nothing of the list is stored.

    `index` is its place in the list that was sent (0 for a single event).
    """

    def __init__(self, message: str, index: int = 0) -> None:
        super().__init__(message)
        self.index = index


class InvalidDuration(FlowsError, ValueError):
    """A duration or moment that cannot be read."""


class ExpressionError(FlowsError, ValueError):
    """A bad expression: syntax, unknown name or unknown function. `column` counts from 1, None when not known."""

    def __init__(self, message: str, column: int | None = None) -> None:
        super().__init__(message)
        self.column = column


class NotStorable(FlowsError, TypeError):
    """A value without a JSON form. `path` leads to it: `$.items[3].when`."""

    def __init__(self, message: str, path: str = "$") -> None:
        super().__init__(message)
        self.path = path


class InvalidOutput(FlowsError, ValueError):
    """A value that does not fit its `output_type`; the message names each field. Not retried: its work was done."""


class BoundExceeded(FlowsError):
    """Past a bound. The message names the bound, the size that was met and the setting that moves it."""

    def __init__(self, bound: str, limit: int, size: int, remedy: str) -> None:
        super().__init__(bound, limit, size, remedy)
        self.bound = bound
        self.limit = limit
        self.size = size
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.bound}: at most {self.limit:,}, got {self.size:,}. {self.remedy}"


class UnknownFlow(FlowsError, LookupError):
    """No flow of that name is known to this process or the store."""


class UnknownRun(FlowsError, LookupError):
    """No run of that id is in the store."""


class UnknownEvent(FlowsError, LookupError):
    """No event of that id is in the store."""


class RerunRefused(FlowsError, ValueError):
    """A rerun or replay that cannot be made as asked: nothing was started.

    `candidates` are the steps that were meant perhaps, by the names under which `from_step` takes them.
    """

    def __init__(self, message: str, candidates: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.candidates = candidates


class StoreError(FlowsError):
    """The store cannot be used as it is."""


class StoreUnavailable(StoreError):
    """The store does not answer. What `send` accepted before is kept."""


class SchemaMismatch(StoreError):
    """The store's schema is older or newer than this code."""


class PayloadLocked(StoreError):
    """A stored payload, or a whole store, is encrypted under a key that this app lacks. Nothing is lost: give it."""


class StoreMismatch(StoreError):
    """This process uses another store than the one that the broker remembers for the app."""


class StepError(FlowsError):
    """A step whose attempts are spent.

    `step_id` is the step's id, `name` the original error's class name, `message` its text and `stack` its traceback
    without our own frames.
    """

    def __init__(self, step_id: str, name: str, message: str, stack: str = "") -> None:
        # Celery's result backends make an error anew from its args, as pickle does.
        super().__init__(step_id, name, message, stack)
        self.step_id = step_id
        self.name = name
        self.message = message
        self.stack = stack

    def __str__(self) -> str:
        return f"step {self.step_id!r} failed: {self.name}: {self.message}"


class StepTimeout(StepError):
    """A step whose attempts are spent, the last because it outlived `step.using(timeout=...)`.

    `stack` shows where its body was then. A sync body is left running in its thread; its value is dropped.
    """


class InvokeError(StepError):
    """An invoked run that failed, was cancelled or skipped, or could not be started.

    `name`, `message` and `stack` are those of its error, `RunCancelled` and the reason when it did not fail; `run_id`
    is the run's id, empty when none was started.
    """

    def __init__(self, step_id: str, name: str, message: str, stack: str = "", run_id: str = "") -> None:
        super().__init__(step_id, name, message, stack)
        self.args = (step_id, name, message, stack, run_id)
        self.run_id = run_id

    def __str__(self) -> str:
        what = f"the invoked run {self.run_id} ended with" if self.run_id else "nothing was invoked,"
        return f"step {self.step_id!r}: {what} {self.name}: {self.message}"


class InvokeTimeout(InvokeError):
    """An invoked run that did not end in time. It goes on."""


class StepMisuse(FlowsError):
    """A step inside a step, one id in flight twice, an option that a tool does not take. Ends the run; not retried."""


class NondeterminismError(FlowsError):
    """The handler reached a step whose memo was recorded by another kind of step. Ends the run; not retried."""


class RetryAfterError(FlowsError):
    """Raise in a step or handler: try again after `after`, clipped to 1 s .. 24 h.

    `after` is a duration text, a timedelta, an aware datetime, or seconds as int or float.
    """

    def __init__(self, message: str, after: str | timedelta | datetime | float) -> None:
        super().__init__(message)
        self.message = message
        self.after = after

    def __reduce__(self) -> tuple[type["RetryAfterError"], tuple[str, str | timedelta | datetime | float]]:
        return type(self), (self.message, self.after)


class NonRetriableError(FlowsError):
    """Raise in a step or handler: no further attempt."""


class RunFailed(FlowsError):
    """`get()` of a failed run. `name`, `message`, `stack` and `step_id` tell the error."""

    def __init__(self, run_id: str, name: str, message: str, stack: str = "", step_id: str | None = None) -> None:
        super().__init__(run_id, name, message, stack, step_id)
        self.run_id = run_id
        self.name = name
        self.message = message
        self.stack = stack
        self.step_id = step_id

    def __str__(self) -> str:
        return f"run {self.run_id} failed: {self.name}: {self.message}"


class RunCancelled(FlowsError):
    """`get()` of a run that was cancelled or skipped; `reason` tells why."""

    def __init__(self, run_id: str, reason: str) -> None:
        super().__init__(f"run {run_id} was cancelled: {reason}")
        self.run_id = run_id
        self.reason = reason

    def __reduce__(self) -> tuple[type["RunCancelled"], tuple[str, str]]:
        return type(self), (self.run_id, self.reason)


class RunTimeout(FlowsError, TimeoutError):
    """`get(timeout=...)` came back before the run ended. The run goes on."""


class Suspend(BaseException):
    """Leaves a sync handler whose run sleeps, waits or backs off. Never seen by users."""


class LostTurn(BaseException):
    """This turn no longer owns its run: it may write nothing and send nothing."""


class TurnCancelled(BaseException):
    """The run was cancelled while its turn ran."""


class GaveUp(BaseException):
    """Leaves a handler that ends its own run as cancelled: a task that raised Celery's Ignore or Reject."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
