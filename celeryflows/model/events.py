"""An event: a name, JSON data, an id and a moment. Frozen; how it may be named and sized stands here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from celeryflows.durations import to_datetime
from celeryflows.errors import InvalidEvent

RESERVED = "flows/"
RUN_COMPLETED = "flows/run.completed"
RUN_FAILED = "flows/run.failed"
RUN_CANCELLED = "flows/run.cancelled"
FLOW_INVOKED = "flows/flow.invoked"
CRON_FIRED = "flows/cron.fired"

NAME_BOUND = 256
ID_BOUND = 256
EARLIEST = datetime(1980, 1, 1, tzinfo=UTC)
LATEST = datetime(2100, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened; flows start from it and waits are answered by it.

    `name` is `<namespace>/<entity>.<action>` by advice, at most 256 characters; `data` a JSON object or a pydantic
    model (None is `{}`); `id` the sender's own id, which starts each flow once within `flows_dedupe`; `ts` an aware
    datetime (default: now), a future one delays the run; `v` the payload's version. What a handler gets has all set.
    """

    name: str
    data: Any = None
    id: str | None = field(default=None, kw_only=True)
    ts: datetime | None = field(default=None, kw_only=True)
    v: str | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as the store keeps it. Times in microseconds; `text` is its data as JSON, `data` the decoded form."""

    id: str
    ext_id: str | None
    name: str
    text: str
    data: Mapping[str, Any]
    ts: int
    v: str | None

    def scope(self) -> dict[str, Any]:
        """The form that expressions see: plain JSON, `ts` in milliseconds."""
        return {"name": self.name, "data": self.data, "id": self.ext_id or self.id, "ts": self.ts // 1000, "v": self.v}

    def public(self) -> Event:
        """The form that handlers see."""
        return Event(self.name, self.data, id=self.ext_id or self.id, ts=to_datetime(self.ts), v=self.v)


def check_name(name: object, index: int = 0) -> str:
    """Return the name, or raise InvalidEvent with the reason."""
    if not isinstance(name, str):
        raise InvalidEvent(f"event name must be text, got {type(name).__name__}", index)
    if not name:
        raise InvalidEvent("event name is empty", index)
    if len(name) > NAME_BOUND:
        raise InvalidEvent(f"event name is {len(name)} characters long; at most {NAME_BOUND}", index)
    if name != name.strip():
        raise InvalidEvent(f"event name {name!r} begins or ends with a blank", index)
    if "*" in name:
        raise InvalidEvent(f"event name {name!r} holds '*'; only a trigger may, at its end", index)
    if not name.isprintable():
        raise InvalidEvent(f"event name {name!r} holds a control character or one that cannot be stored", index)
    if name.lower().startswith(RESERVED):
        raise InvalidEvent(f"event name {name!r}: 'flows/...' is reserved for celeryflows' own events", index)
    return name


def check_id(value: object, index: int = 0) -> str | None:
    """Return the sender's id, or raise InvalidEvent with the reason."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidEvent(f"event id must be text, got {type(value).__name__}", index)
    if not 0 < len(value) <= ID_BOUND:
        raise InvalidEvent(f"event id must have 1 to {ID_BOUND} characters, got {len(value)}", index)
    if "\0" in value or any("\ud800" <= c <= "\udfff" for c in value):
        raise InvalidEvent("event id holds NUL or a lone surrogate, which cannot be stored", index)
    return value


def check_ts(value: object, index: int = 0) -> datetime | None:
    """Return an aware datetime (int milliseconds and ISO text with a zone are taken too), or raise InvalidEvent."""
    if value is None:
        return None
    moment = _moment(value, index)
    if moment < EARLIEST:
        raise InvalidEvent(f"event ts {moment.isoformat()} is before 1980; int ts are milliseconds", index)
    if moment > LATEST:
        raise InvalidEvent(f"event ts {moment.isoformat()} is after 2100; int ts are milliseconds", index)
    return moment


def _moment(value: object, index: int) -> datetime:
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return to_datetime(value * 1000)
        except (OverflowError, ValueError, OSError):
            raise InvalidEvent(
                f"event ts {value} is after 2100 or before 1980; int ts are milliseconds", index
            ) from None
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise InvalidEvent(f"event ts {value!r} is no ISO moment, such as 2026-01-31T09:00:00Z", index) from None
    if not isinstance(value, datetime):
        raise InvalidEvent(f"event ts must be an aware datetime, got {type(value).__name__}", index)
    if value.tzinfo is None:
        raise InvalidEvent("event ts has no time zone; use datetime.now(UTC) or add tzinfo=", index)
    return value
