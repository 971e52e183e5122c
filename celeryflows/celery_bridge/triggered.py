"""`flows.on`: what starts an existing task, checked where it is written down; its task may come later."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celeryflows.celery_bridge.task_body import Mapper
from celeryflows.celery_bridge.task_options import GUARDS, TaskOptions, read_options
from celeryflows.errors import DeclarationError
from celeryflows.expressions import compile_expression
from celeryflows.model.flows import CODE
from celeryflows.model.limit_options import OPTIONS
from celeryflows.model.triggers import EVENT_NAMES, OnEvent, Trigger, parse_triggers

OF_FLOWS = ("name", "version")
TAKEN = (*OPTIONS, *GUARDS, *OF_FLOWS)


@dataclass(frozen=True, slots=True)
class Triggered:
    """Triggers of one task. `mapping` is an expression, CODE for `mapper`, or None for the event's data."""

    task: Any
    triggers: tuple[Trigger, ...]
    mapping: str | None = None
    mapper: Mapper | None = None
    name: str | None = None
    options: TaskOptions | None = None


def read_triggered(trigger: Any, task: Any, kwargs: Any, options: Mapping[str, Any]) -> Triggered:
    """Check what `flows.on` was given. Raises DeclarationError or ExpressionError with the remedy."""
    what = _shown(task)
    for key in options.keys() - set(TAKEN):
        near = difflib.get_close_matches(key, ["kwargs", *TAKEN], n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else " Celery's own belong to the task."
        raise DeclarationError(f"flows.on of {what}: unknown option {key!r}.{hint}")
    triggers = parse_triggers(trigger, what)
    if not triggers:
        raise DeclarationError(f"flows.on of {what}: no trigger; an event's name, OnEvent or OnCron")
    name = options.get("name")
    if name is not None and not (isinstance(name, str) and 0 < len(name) <= 200 and name.isprintable()):
        raise DeclarationError(f"flows.on of {what}: name={name!r:.80}; a printable text of 1 to 200 characters")
    limits = {key: value for key, value in options.items() if key != "name"}
    mapping = _mapping(kwargs, what)
    return Triggered(
        task, triggers, mapping, kwargs if mapping == CODE else None, name, read_options(name or what, limits)
    )


def _mapping(kwargs: Any, what: str) -> str | None:
    if kwargs is None:
        return None
    if isinstance(kwargs, str):
        compile_expression(kwargs, names=EVENT_NAMES, what=f"kwargs of flows.on of {what}")
        return kwargs
    if callable(kwargs):
        return CODE
    raise DeclarationError(
        f"flows.on of {what}: kwargs={kwargs!r:.60}; an expression such as \"{{'to': event.data.email}}\", or a "
        "function of the event"
    )


def check_together(flow: str, ones: Sequence[Triggered], options: TaskOptions | None) -> None:
    """What cannot stand together under one flow. Raises DeclarationError with the remedy.

    `options`: those of the task's own decorator.
    """
    if sum(one.options is not None for one in (*ones, Triggered(None, (), options=options))) > 1:
        raise DeclarationError(
            f"flows.on of {flow!r}: its runs have limits already. Leave the others out, or give this one a "
            "name= of its own."
        )
    seen: set[str] = set()
    for trigger in (trigger for one in ones for trigger in one.triggers):
        text = trigger.name if isinstance(trigger, OnEvent) else f"{trigger.cron} {trigger.tz}"
        if text in seen:
            raise DeclarationError(
                f"flows.on of {flow!r}: {text!r} starts it already, and one event starts a flow once. Give the second "
                "a name= of its own."
            )
        seen.add(text)
    chosen = options or next((one.options for one in ones if one.options is not None), None)
    if chosen is not None and any(one.mapping == CODE for one in ones) and "kwargs" in str(chosen.limits.json()):
        raise DeclarationError(
            f"flows.on of {flow!r}: its limits look at kwargs, which a function makes in the worker. Give kwargs= as "
            "an expression, or let the keys look at event."
        )


def _shown(task: Any) -> str:
    return task if isinstance(task, str) else str(getattr(task, "__name__", task))
