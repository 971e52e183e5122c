"""A webhook's call as events: its transform is evaluated, its delivery's id becomes the events' own."""

from collections.abc import Mapping
from typing import Any

from celeryflows.codec import parse_wire
from celeryflows.console.wire import read_events
from celeryflows.engine.intake import send
from celeryflows.engine.runtime import Runtime
from celeryflows.errors import InvalidEvent
from celeryflows.expressions import value_or_none
from celeryflows.model.events import ID_BOUND, Event
from celeryflows.settings.hooks import Hook


def deliver_hook(
    runtime: Runtime, hook: Hook, body: Any, *, headers: Mapping[str, str], query: Mapping[str, str]
) -> list[str]:
    """Send what a call of a hook comes to; our ids, none for a call that its transform gives null for.

    `body` is decoded; header names are lower-case. The events' ids are those that the transform gives, with the source
    before them: a delivery that comes again starts nothing. Raises InvalidEvent for what the transform cannot take.
    """
    value, problem = value_or_none(hook.transform, {"body": body, "headers": dict(headers), "query": dict(query)})
    if problem is not None:
        raise InvalidEvent(f"the transform of {hook.source!r} does not fit this call: {problem}")
    if value is None:
        return []
    found = read_events(value)
    many = isinstance(value, list)
    return send(runtime, [_named(hook, event, index if many else None) for index, event in enumerate(found)])


def decode(body: bytes) -> Any:
    """The JSON of a call. Raises InvalidEvent."""
    return parse_wire(body)


def _named(hook: Hook, event: Event, index: int | None) -> Event:
    own = event.id
    if own is None:
        return event
    if not isinstance(own, str | int) or isinstance(own, bool):
        raise InvalidEvent(f"the transform of {hook.source!r} gives an id that is no text", index or 0)
    # Sources number their deliveries each for itself; of a list each event has its own.
    text = f"{hook.source}:{own}" if index is None else f"{hook.source}:{own}:{index}"
    if len(text) > ID_BOUND:
        raise InvalidEvent(f"the transform of {hook.source!r} gives an id of {len(text)} characters", index or 0)
    return Event(event.name, event.data, id=text, ts=event.ts, v=event.v)
