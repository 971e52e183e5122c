"""Options of ours on a plain Celery task: told apart from Celery's, read and checked. The rest is Celery's affair."""

import difflib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from celery.app.task import Task

from celeryflows.celery_bridge.declaration import DECORATOR
from celeryflows.errors import DeclarationError
from celeryflows.model.cancels import CancelOn, Timeouts, parse_cancel_on, parse_timeouts
from celeryflows.model.limit_options import OPTIONS, is_ours, parse_limits
from celeryflows.model.limits import Limits
from celeryflows.model.retries import Backoff, RetryPolicy, check_backoff, check_retries
from celeryflows.model.triggers import KEY_NAMES

DURABLE = "durable"
GUARDS = ("timeouts", "cancel_on")
# Of a durable task: its steps are tried again by them, its body by Celery's own words.
OF_STEPS = ("retries", "backoff", "version")
OURS = (*OPTIONS, *GUARDS, DURABLE)
# A shorter word of ours is near to too many words of theirs.
NEAR = 0.8


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """What a task asks of the engine, checked."""

    limits: Limits = field(default_factory=Limits)
    cancel_on: tuple[CancelOn, ...] = ()
    timeouts: Timeouts | None = None
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    version: str | None = None
    durable: bool = False


def split_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Ours and Celery's. `rate_limit` and `priority` are ours when they are given our types."""
    ours = {key: value for key, value in options.items() if _is_ours(key, value)}
    if ours.get(DURABLE):
        ours |= {key: options[key] for key in OF_STEPS if key in options}
    return ours, {key: value for key, value in options.items() if key not in ours}


def own_options(task: Any, *, sure: bool = False) -> dict[str, Any]:
    """Ours among the attributes of a task that was made without us: of a class that somebody wrote, or to be `sure`,
    only where there is a value that can be nobody else's."""
    ours, _ = split_options(vars(type(task)))
    if getattr(task, "_decorated", False) and not sure:
        return ours
    types = (Limits.__module__, Timeouts.__module__)
    return ours if any(type(one).__module__ in types or key == DURABLE for key, one in ours.items()) else {}


def _is_ours(key: str, value: object) -> bool:
    return is_ours(key, value) if key in OPTIONS else key in OURS


def check_spelling(name: str, options: Mapping[str, Any], base: type | None) -> None:
    """Refuse what nobody knows and nearly is an option of ours. Raises DeclarationError with the nearest name."""
    known = {*dir(Task), *dir(base or Task), *DECORATOR, *OF_STEPS, "filter"}
    for key in options.keys() - known:
        near = difflib.get_close_matches(key, OURS, n=1, cutoff=NEAR)
        if near:
            raise DeclarationError(
                f"task {name!r}: unknown option {key!r}. Did you mean {near[0]!r}? An attribute of your own belongs to "
                "the task's base class."
            )


def read_options(name: str, ours: Mapping[str, Any]) -> TaskOptions | None:
    """Read and check; None for a task that asks nothing. Raises DeclarationError with the remedy."""
    given = {key: value for key, value in ours.items() if value is not None}
    durable = given.pop(DURABLE, False)
    if not isinstance(durable, bool):
        raise DeclarationError(f"task {name!r}: durable={durable!r:.60}; True, or leave it out")
    if not given and not durable:
        return None
    limits = parse_limits({key: given[key] for key in OPTIONS if key in given}, name, KEY_NAMES, what="task")
    if limits.batch is not None and not durable:
        raise DeclarationError(
            f"task {name!r}: batch is not for a plain task, which takes the arguments of one call. With durable=True "
            "it finds all calls in self.ctx.events."
        )
    version = given.get("version")
    if not (version is None or (isinstance(version, str) and 0 < len(version) <= 256)):
        raise DeclarationError(f"task {name!r}: version={version!r:.60}; a text of at most 256 characters")
    return TaskOptions(
        limits=limits,
        cancel_on=parse_cancel_on(given.get("cancel_on"), name),
        timeouts=parse_timeouts(given.get("timeouts"), name),
        policy=RetryPolicy(
            check_retries(given.get("retries", 3), f"task {name!r}"),
            check_backoff(given.get("backoff", Backoff()), f"task {name!r}"),
        ),
        version=version,
        durable=durable,
    )


class OfTurn(property):
    """`step` or `ctx` of a durable task."""


def check_durable(name: str, task: Any) -> None:
    """A durable task is a plain function, and its base has no `step` or `ctx` of its own. Raises DeclarationError."""
    if inspect.iscoroutinefunction(inspect.unwrap(task.run)):
        raise DeclarationError(
            f"task {name!r}: durable=True is for plain functions, as Celery's tasks are. Declare an async def as a "
            "flow: @flows.flow(name=...)."
        )
    for word in ("step", "ctx"):
        owner = next((one for one in type(task).__mro__ if word in vars(one)), None)
        if owner is not None and not isinstance(vars(owner)[word], OfTurn):
            raise DeclarationError(
                f"task {name!r}: durable=True gives it self.{word}, but its class {owner.__name__} has a {word!r} of "
                "its own. Rename that one, or give the task another base."
            )
