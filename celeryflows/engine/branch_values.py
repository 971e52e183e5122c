"""A branch's value on its way to who opened the group: as any stored value, but an Event or Signal stays one."""

import json
from typing import Any

from celeryflows.codec import dumps, loads_plain
from celeryflows.durations import from_datetime
from celeryflows.engine.runtime import Schemas
from celeryflows.json_forms import TAG, revive
from celeryflows.model.events import Event, StoredEvent
from celeryflows.model.signals import Signal

_EVENT, _SIGNAL = "event", "signal"


def pack(value: Any, what: str) -> str:
    """The value as JSON. Raises NotStorable."""
    if isinstance(value, Event):
        ts = None if value.ts is None else from_datetime(value.ts)
        inside = dumps({"name": value.name, "data": value.data, "id": value.id, "ts": ts, "v": value.v}, what=what)
        return f'{{"{TAG}":["{_EVENT}",{inside}]}}'
    if isinstance(value, Signal):
        return f'{{"{TAG}":["{_SIGNAL}",{dumps({"name": value.name, "data": value.data}, what=what)}]}}'
    if type(value) in (list, tuple) and any(isinstance(one, Event | Signal | list | tuple) for one in value):
        return f"[{','.join(pack(one, what) for one in value)}]"
    return dumps(value, what=what)


def unpack(schemas: Schemas, text: str) -> Any:
    """The value again; an event's data as the registered model."""

    def read(found: dict[str, Any]) -> Any:
        if TAG in found and found[TAG][0] == _EVENT:
            return _event(schemas, found[TAG][1])
        if TAG in found and found[TAG][0] == _SIGNAL:
            return Signal(**found[TAG][1])
        return revive(found)

    return json.loads(text, object_hook=read) if TAG in text else loads_plain(text)


def _event(schemas: Schemas, found: dict[str, Any]) -> Event:
    stored = StoredEvent(found["id"], None, found["name"], "", found["data"] or {}, found["ts"] or 0, found["v"])
    return schemas.read(stored)
