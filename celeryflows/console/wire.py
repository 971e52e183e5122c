"""Events from outside: a request's body is read, checked and sent whole, or refused with the index of the bad one."""

import binascii
from base64 import b64decode
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

from celeryflows.codec import parse_wire
from celeryflows.durations import DAY
from celeryflows.engine.intake import send
from celeryflows.engine.runtime import Runtime
from celeryflows.errors import InvalidEvent
from celeryflows.ids import seeded_ids
from celeryflows.model.events import Event

# Ids begin with the time, by which lists are ordered and retention forgets: a seed's may not be far from ours.
SEED_WITHIN = DAY
SEED_BYTES = 10


def receive(runtime: Runtime, body: bytes, *, seed: str | None = None) -> list[str]:
    """Send what the body holds, one event object or a list of them; our ids, in order. All is committed, or nothing.

    `seed` is `<unix ms>,<base64 of 10 bytes>`: the same body under the same seed has the same ids, so that a client may
    send it again; one that cannot be read is ignored. Raises InvalidEvent, BoundExceeded or StoreUnavailable.
    """
    if not body.strip():
        raise InvalidEvent("The body is empty. Send an event as a JSON object, or a list of them.")
    events = read_events(parse_wire(body))
    return send(runtime, events, _ids(runtime, body, seed))


def read_json(body: bytes) -> Any:
    """Strict JSON of a request, None for an empty body. Raises InvalidEvent."""
    return parse_wire(body) if body.strip() else None


def read_events(value: Any) -> list[Event]:
    """The events of decoded JSON: an object or a list of them. Raises InvalidEvent with the index of the bad one."""
    if not isinstance(value, list):
        return [_event(value, 0)]
    return [_event(one, index) for index, one in enumerate(value)]


def _event(value: Any, index: int) -> Event:
    if not isinstance(value, Mapping):
        raise InvalidEvent(f"an event is a JSON object with a name, got {_kind(value)}", index)
    name = value.get("name")
    data = value.get("data")
    if name is None:
        raise InvalidEvent("event name is empty", index)
    if data is not None and not isinstance(data, dict):
        raise InvalidEvent(f"event data must be an object, got {_kind(data)}", index)
    own = value.get("id")
    return Event(name, data, id=None if own == "" else own, ts=_ts(value.get("ts"), index), v=value.get("v"))


def _ts(value: Any, index: int) -> Any:
    # Clients write 0 for "now", and JavaScript any number.
    if isinstance(value, bool) or not isinstance(value, int | float | str | None):
        raise InvalidEvent(f"event ts must be milliseconds since 1970, got {_kind(value)}", index)
    if value in (None, 0):
        return None
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _ids(runtime: Runtime, body: bytes, seed: str | None) -> Iterator[str] | None:
    ms, _, text = (seed or "").partition(",")
    try:
        moment, chance = int(ms), b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return None
    if len(chance) != SEED_BYTES or abs(moment * 1000 - runtime.clock.now()) > SEED_WITHIN:
        return None
    # With the body in it, a seed that is used for other events never hides them.
    return seeded_ids(moment, chance + sha256(body).digest())


_KINDS = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), "a number")
