"""Calls of existing Celery tasks: how arguments become a run's event and come back, and what keys see. Pure.

The event's data are the arguments under the parameters' names; what plain JSON cannot hold stands beside them."""

import inspect
import json
from collections.abc import Mapping
from typing import Any

from celeryflows.codec import dumps, loads
from celeryflows.errors import NotStorable
from celeryflows.expressions import compile_expression, condition, value_or_none
from celeryflows.json_forms import TAG
from celeryflows.model.events import CRON_FIRED, FLOW_INVOKED, StoredEvent
from celeryflows.model.flows import CODE, FlowDefinition
from celeryflows.model.triggers import EVENT_NAMES, OnCron, Trigger

# Beside the arguments, when they hold a datetime, UUID, Decimal or bytes: all of them, exactly.
EXACT = "$call"
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def call_data(signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any], what: str) -> Any:
    """The data of a call: each argument under its parameter's name, defaults too where they can be stored.

    Raises TypeError for arguments that do not fit, NotStorable for one without a JSON form.
    """
    bound = signature.bind(*args, **kwargs)
    given = _flat(signature, bound.arguments)
    text = dumps(given | _defaults(signature, given), what=f"arguments of {what}")
    return _data(text)


def arguments(signature: inspect.Signature, data: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The call again: positional arguments where the function has no other way, and keywords.

    Raises TypeError for data that does not fit the function.
    """
    given = dict(loads(data[EXACT]) if EXACT in data else data)
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    parameters = signature.parameters.values()
    has_rest = any(one.kind is inspect.Parameter.VAR_POSITIONAL and given.get(one.name) for one in parameters)
    for one in parameters:
        if one.kind is inspect.Parameter.VAR_POSITIONAL:
            args += given.pop(one.name, None) or []
        elif one.name in given and (
            one.kind is inspect.Parameter.POSITIONAL_ONLY or (has_rest and one.kind in POSITIONAL)
        ):
            args.append(given.pop(one.name))
    kwargs |= given
    signature.bind(*args, **kwargs)
    return args, kwargs


def _flat(signature: inspect.Signature, bound: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in bound.items():
        if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            if twice := value.keys() & signature.parameters.keys():
                raise TypeError(f"the keyword argument {min(twice)!r} bears the name of another parameter")
            flat |= value
        else:
            flat[name] = value
    return flat


def _defaults(signature: inspect.Signature, given: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, one in signature.parameters.items():
        if name not in given and one.default is not inspect.Parameter.empty and _is_storable(one.default):
            found[name] = one.default
    return found


def _is_storable(value: object) -> bool:
    try:
        dumps(value)
    except NotStorable:
        return False
    return True


def _data(text: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(text)
    if TAG in text:
        shown = _shown(data)
        return {**shown, EXACT: text} if shown != data else data
    return data


def _shown(value: Any) -> Any:
    """With text in place of what only its tag tells."""
    if isinstance(value, dict):
        return value[TAG][1] if TAG in value else {name: _shown(one) for name, one in value.items()}
    return [_shown(one) for one in value] if isinstance(value, list) else value


def roots(flow: FlowDefinition | None, event: StoredEvent) -> dict[str, Any]:
    """What the keys of a flow's limits see: `event`, and `kwargs`, the arguments that its task gets from it."""
    scope = event.scope()
    kwargs = event.data if flow is None or not flow.mappings else mapped(flow, scope)[0]
    return {"event": scope, "kwargs": kwargs if isinstance(kwargs, Mapping) else {}}


def mapped(flow: FlowDefinition, scope: Mapping[str, Any]) -> tuple[Any, str | None]:
    """The arguments that an event gives a task, by the mapping of the trigger that it came by, and why there are none;
    those that only a function in the worker could tell are none."""
    found = mapping_of(flow, scope)
    if found == CODE:
        return {}, None
    if found is None:
        return scope["data"], None
    compiled = compile_expression(found, names=EVENT_NAMES, what=f"kwargs of {flow.name!r}")
    return value_or_none(compiled, {"event": scope})


def mapping_of(flow: FlowDefinition, scope: Mapping[str, Any]) -> str | None:
    """The mapping for an event: that of the first trigger that it matches, of the only one, else none."""
    if scope["name"] == FLOW_INVOKED:
        return None
    at = trigger_of(flow, scope)
    if at is not None:
        return flow.mappings[at]
    kinds = set(flow.mappings)
    return kinds.pop() if len(kinds) == 1 else None


def trigger_of(flow: FlowDefinition, scope: Mapping[str, Any]) -> int | None:
    """The number of the first trigger that an event matches."""
    return next((at for at, one in enumerate(flow.triggers) if _is_by(one, scope)), None)


def _is_by(trigger: Trigger, scope: Mapping[str, Any]) -> bool:
    if isinstance(trigger, OnCron):
        return bool(scope["name"] == CRON_FIRED and scope["data"].get("cron") == trigger.cron)
    if not trigger.matches(scope["name"]):
        return False
    if trigger.if_exp is None:
        return True
    compiled = compile_expression(trigger.if_exp, names=EVENT_NAMES, what=f"if_exp of trigger {trigger.name!r}")
    truth, _ = condition(compiled, {"event": scope})
    return truth
