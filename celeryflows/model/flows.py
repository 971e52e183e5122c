"""A flow as it is declared and kept in the store: what a sender needs to route events without its code."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from celeryflows.ids import derived_id
from celeryflows.model.cancels import CancelOn, Timeouts, read_cancel_on, read_timeouts
from celeryflows.model.limits import NONE, Limits, read_limits
from celeryflows.model.triggers import OnCron, OnEvent, Trigger

# In place of a mapping that is a function: only a worker has it.
CODE = ""


@dataclass(frozen=True, slots=True)
class FlowDefinition:
    """The stored form: no handler, only what routes, schedules and sends.

    `send` holds Celery's sending options of the task (queue, priority, routing_key, exchange), applied to each
    message. `failure_of` names the flow whose failures this one handles. `task` is the Celery task whose messages are
    its turns, where that has another name; `mappings`: for each trigger how its events become the task's arguments,
    an expression, CODE, or None for `event.data`.
    """

    name: str
    label: str = ""
    triggers: tuple[Trigger, ...] = ()
    retries: int = 3
    version: str | None = None
    send: Mapping[str, Any] = field(default_factory=dict)
    failure_of: str | None = None
    cancel_on: tuple[CancelOn, ...] = ()
    timeouts: Timeouts | None = None
    limits: Limits = NONE
    task: str | None = None
    mappings: tuple[str | None, ...] = ()

    @property
    def events(self) -> tuple[OnEvent, ...]:
        """The triggers by event."""
        return tuple(t for t in self.triggers if isinstance(t, OnEvent))

    @property
    def crons(self) -> tuple[tuple[int, OnCron], ...]:
        """The triggers by cron, with their number among the triggers."""
        return tuple((i, t) for i, t in enumerate(self.triggers) if isinstance(t, OnCron))

    def text(self) -> str:
        """Stable JSON."""
        value = {
            "label": self.label,
            "triggers": [trigger_json(t) for t in self.triggers],
            "retries": self.retries,
            "version": self.version,
            "send": dict(self.send),
            "failure_of": self.failure_of,
        }
        # Only where they are given: a flow without them keeps the hash that it had.
        if self.cancel_on:
            value["cancel_on"] = [one.json() for one in self.cancel_on]
        if self.timeouts is not None:
            value["timeouts"] = self.timeouts.json()
        if self.limits:
            value["limits"] = self.limits.json()
        if self.task is not None:
            value["task"] = self.task
        if self.mappings:
            value["mappings"] = list(self.mappings)
        return json.dumps(value, sort_keys=True, separators=(",", ":"))

    @property
    def hash(self) -> str:
        """Changes when anything of the definition changes."""
        return derived_id(self.name, self.text())


def trigger_json(trigger: Trigger) -> dict[str, Any]:
    """The stored form of a trigger."""
    if isinstance(trigger, OnEvent):
        return {"event": trigger.name, "if_exp": trigger.if_exp}
    return {"cron": trigger.cron, "tz": trigger.tz, "jitter": trigger.jitter, "missed": trigger.missed}


def read_trigger(value: Mapping[str, Any]) -> Trigger:
    """The trigger again."""
    if "event" in value:
        return OnEvent(value["event"], value.get("if_exp"))
    return OnCron(value["cron"], value["tz"], value.get("jitter"), value["missed"])


def read_definition(name: str, text: str) -> FlowDefinition:
    """The definition again. Fields that a newer version added are ignored."""
    value = json.loads(text)
    return FlowDefinition(
        name=name,
        label=value.get("label", ""),
        triggers=tuple(read_trigger(t) for t in value["triggers"]),
        retries=value.get("retries", 3),
        version=value.get("version"),
        send=value.get("send", {}),
        failure_of=value.get("failure_of"),
        cancel_on=read_cancel_on(value.get("cancel_on", ())),
        timeouts=read_timeouts(value.get("timeouts")),
        limits=read_limits(value.get("limits")),
        task=value.get("task"),
        mappings=tuple(value.get("mappings", ())),
    )


def flow_name(flow: object) -> str:
    """The name of a flow that is given by its task or its name. Raises TypeError for anything else."""
    name = flow if isinstance(flow, str) else getattr(flow, "name", None)
    if not isinstance(name, str):
        raise TypeError(f"a flow is given by its task or its name, got {flow!r:.80}")
    return name
