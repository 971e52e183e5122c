"""A flow's options, checked where it is declared: ours read, Celery's passed on, misspelt ones refused."""

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from celery.app.task import Task

from celeryflows.engine.runtime import Flow, Handler
from celeryflows.errors import DeclarationError
from celeryflows.model.cancels import parse_cancel_on, parse_timeouts
from celeryflows.model.events import RUN_FAILED
from celeryflows.model.flows import FlowDefinition
from celeryflows.model.limit_options import OPTIONS, is_ours, parse_limits
from celeryflows.model.output_types import read_output_type
from celeryflows.model.retries import Backoff, RetryPolicy, check_backoff, check_retries
from celeryflows.model.triggers import OnEvent, parse_triggers

OURS = (
    *("trigger", "name", "label", "retries", "backoff", "on_failure", "version", "output_type"),
    *("cancel_on", "timeouts", "record_inputs"),
)
# Applied to each message: as task attributes Celery 5.7 deprecates them.
SENT = ("queue", "routing_key", "exchange", "priority", "delivery_mode")
REFUSED = {
    "bind": "a handler gets ctx; leave bind out",
    "max_retries": "use retries=",
    "autoretry_for": "every error of a step is retried; use retries= and backoff=",
    "default_retry_delay": "use backoff=Backoff(first=...)",
    "dont_autoretry_for": "raise NonRetriableError",
    "retry_kwargs": "use retries=",
    "retry_backoff": "use backoff=",
    "retry_backoff_max": "use backoff=Backoff(max=...)",
    "retry_jitter": "use backoff=Backoff(jitter=...)",
    "run": "the handler is the run",
    "apply_async": "a flow brings its own",
    "typing": "a flow takes one mapping",
}
# Options of Celery's decorator that are no attribute of Task.
DECORATOR = ("base", "shared", "lazy", "pydantic", "pydantic_strict", "pydantic_context", "pydantic_dump_kwargs")
NAME_BOUND = 200


@dataclass(frozen=True, slots=True)
class Declaration:
    """A flow as it was written down, before it knows its app."""

    handler: Handler
    options: Mapping[str, Any] = field(default_factory=dict)

    def checked(self, name: str, base: type | None = None) -> "Declared":
        """Read and check every option. Raises DeclarationError with the remedy.

        `base` is the task's base class, None while no app is known: then nobody can tell which options are misspelt.
        """
        options = dict(self.options)
        if not 0 < len(name) <= NAME_BOUND or not name.isprintable():
            raise DeclarationError(f"flow name {name!r:.80}: a printable text of 1 to {NAME_BOUND} characters")
        self._check_handler(name)
        ours = {key: options.pop(key) for key in OURS if key in options}
        limits = {key: options.pop(key) for key in OPTIONS if key in options and is_ours(key, options[key])}
        sent = {key: options.pop(key) for key in SENT if options.get(key) is not None}
        _check_celery_options(name, options, base)
        policy = RetryPolicy(
            check_retries(ours.get("retries", 3), f"flow {name!r}"),
            check_backoff(ours.get("backoff", Backoff()), f"flow {name!r}"),
        )
        definition = FlowDefinition(
            name=name,
            label=_text(ours.get("label"), "label", name) or _label(self.handler),
            triggers=parse_triggers(ours.get("trigger"), name),
            retries=policy.retries,
            version=_text(ours.get("version"), "version", name),
            send=sent,
            cancel_on=parse_cancel_on(ours.get("cancel_on"), name),
            timeouts=parse_timeouts(ours.get("timeouts"), name),
            limits=parse_limits(limits, name),
        )
        kind = ours.get("output_type")
        output_type = None if kind is None else read_output_type(kind, f"flow {name!r}")
        recorded = _switch(ours.get("record_inputs"), "record_inputs", name)
        is_async = inspect.iscoroutinefunction(self.handler)
        flow = Flow(definition, self.handler, policy, is_async, output_type, record_inputs=recorded)
        return Declared(flow, options, _failure_flow(name, ours.get("on_failure"), sent))

    def _check_handler(self, name: str) -> None:
        if not callable(self.handler):
            raise DeclarationError(f"flow {name!r}: {self.handler!r} is no function")
        if inspect.isgeneratorfunction(self.handler) or inspect.isasyncgenfunction(self.handler):
            raise DeclarationError(f"flow {name!r}: a handler is a function or a coroutine function, not a generator")
        try:
            inspect.signature(self.handler).bind(None)
        except TypeError:
            raise DeclarationError(f"flow {name!r}: a handler takes one argument, ctx: def handler(ctx)") from None


@dataclass(frozen=True, slots=True)
class Declared:
    """A flow that is checked: what the engine runs, what Celery is told, and the flow of its failures."""

    flow: Flow
    celery_options: Mapping[str, Any]
    on_failure: Flow | None = None


def _failure_flow(name: str, handler: Any, sent: Mapping[str, Any]) -> Flow | None:
    if handler is None:
        return None
    if not callable(handler):
        raise DeclarationError(f"flow {name!r}: on_failure={handler!r} is no handler; def on_failure(ctx)")
    definition = FlowDefinition(
        name=f"{name}.on_failure",
        label=f"when {name} failed",
        triggers=(OnEvent(RUN_FAILED),),
        send=sent,
        failure_of=name,
    )
    return Flow(definition, handler, RetryPolicy(), inspect.iscoroutinefunction(handler))


def _check_celery_options(name: str, options: Mapping[str, Any], base: type | None) -> None:
    known = {key for key in (*dir(Task), *dir(base or Task)) if not key.startswith("_")} | set(DECORATOR)
    for key in options:
        if key in REFUSED:
            raise DeclarationError(f"flow {name!r}: {key}= is not for a flow; {REFUSED[key]}")
        if base is not None and key not in known:
            near = difflib.get_close_matches(key, [*known, *OURS, *OPTIONS, *SENT], n=1, cutoff=0.5)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise DeclarationError(f"flow {name!r}: unknown option {key!r}.{hint}")


def _text(value: Any, what: str, name: str) -> str | None:
    if value is None or (isinstance(value, str) and 0 < len(value) <= 256):
        return value
    raise DeclarationError(f"flow {name!r}: {what}={value!r:.60}; a text of at most 256 characters")


def _switch(value: Any, what: str, name: str) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    raise DeclarationError(f"flow {name!r}: {what}={value!r:.60}; True or False")


def _label(handler: Callable[..., Any]) -> str:
    lines = (inspect.getdoc(handler) or "").strip().splitlines()
    return lines[0].strip()[:256] if lines else ""
