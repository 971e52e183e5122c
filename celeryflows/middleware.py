"""Middleware: what a user's own code may change on the way in and out of sends, runs and steps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import isawaitable, iscoroutinefunction
from typing import Any

from celeryflows.errors import ConfigurationError
from celeryflows.model.events import Event


@dataclass(frozen=True, slots=True)
class RunCall:
    """The run that `run_output` is asked about; `attempt` is the body's, 0-based."""

    run_id: str
    flow: str
    version: str | None
    attempt: int
    event: Event


@dataclass(frozen=True, slots=True)
class StepCall:
    """One attempt of a step: `fn(*args, **kwargs)` is what it calls; `dataclasses.replace` makes another.

    `id` is the step's with its count (`charge`, `charge:1`), `attempt` 0-based.
    """

    run_id: str
    flow: str
    id: str
    attempt: int
    fn: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


class Middleware:
    """Subclass it and override what you need; give instances: `Flows(app, middleware=[Audit(), Masking()])`.

    Each hook returns the new value, or None to leave it as it is. What comes in (`send`, `run_input`, `step_input`)
    passes the list from first to last, what goes out (`step_output`, `run_output`) from last to first. Hooks are plain
    functions, also under async flows. A step's output is changed once, before it is stored, and read back as stored.
    """

    def send(self, event: Event) -> Event | None:
        """An event, or the call of a flow, before it is checked and stored. What it raises refuses the whole send."""

    def run_input(self, ctx: Any) -> Any:
        """The handler's ctx, at the begin of each turn, replays too: do the same each time. Errors are the body's."""

    def step_input(self, step: StepCall) -> StepCall | None:
        """An attempt of a step, right before its function is called; not in replays. Errors are the step's."""

    def step_output(self, step: StepCall, value: Any) -> Any:
        """What the function returned, before it is stored. Errors are the step's."""

    def run_output(self, run: RunCall, value: Any) -> Any:
        """What the handler returned, before it is stored. Errors are the body's, and retried as such."""


def checked(given: Sequence[Any]) -> tuple[Middleware, ...]:
    """The middleware of a Flows. Raises ConfigurationError for what is none."""
    for one in given:
        if not isinstance(one, Middleware):
            name = one.__name__ if isinstance(one, type) else repr(one)
            remedy = f"{name}()" if isinstance(one, type) else "a subclass of celeryflows.Middleware"
            raise ConfigurationError(f"middleware=[...] takes instances of Middleware, got {name:.80}; give {remedy}")
    return tuple(given)


def sent(middleware: Sequence[Middleware], event: Event) -> Event:
    """The event as the hooks make it."""
    for one in middleware:
        event = _or(one.send(event), event)
    return event


def entered(middleware: Sequence[Middleware], ctx: Any) -> Any:
    """The handler's ctx as the hooks make it."""
    for one in middleware:
        ctx = _or(one.run_input(ctx), ctx)
    return ctx


def returned(middleware: Sequence[Middleware], run: RunCall, value: Any) -> Any:
    """The handler's value as the hooks make it."""
    for one in reversed(middleware):
        value = _or(one.run_output(run, value), value)
    return value


def around(middleware: Sequence[Middleware], call: StepCall) -> Callable[..., Any]:
    """A step's body with its hooks around it, a coroutine function where the body is one."""

    def enter(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> StepCall:
        step = replace(call, args=args, kwargs=kwargs)
        for one in middleware:
            step = _or(one.step_input(step), step)
        return step

    def leave(step: StepCall, value: Any) -> Any:
        for one in reversed(middleware):
            value = _or(one.step_output(step, value), value)
        return value

    async def awaited(step: StepCall, raw: Any) -> Any:
        return leave(step, await raw)

    def body(*args: Any, **kwargs: Any) -> Any:
        step = enter(args, kwargs)
        raw = step.fn(*step.args, **step.kwargs)
        return awaited(step, raw) if isawaitable(raw) else leave(step, raw)

    async def async_body(*args: Any, **kwargs: Any) -> Any:
        step = enter(args, kwargs)
        raw = step.fn(*step.args, **step.kwargs)
        return leave(step, await raw if isawaitable(raw) else raw)

    return async_body if iscoroutinefunction(call.fn) else body


def _or(new: Any, old: Any) -> Any:
    return old if new is None else new
