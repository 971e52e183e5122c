"""A wait for an event: what it looks for, from when, until when. Matching is pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celeryflows.codec import canonical
from celeryflows.ids import hash64
from celeryflows.model.events import StoredEvent

CONDITION_ONLY = ""
PATH_BOUND = 256
WAIT_NAMES = frozenset({"event", "async"})
CANCEL = "cancel"
# A float of that size is written with an exponent, the equal integer is not.
_LONG_NUMBER = re.compile(r"-?\d{16,}")


@dataclass(frozen=True, slots=True)
class WaitSpec:
    """A wait as the handler asked for it. Times in microseconds.

    `path` is the field that must equal `value` (canonical JSON); '' for a condition or a name alone.
    `began`: arrivals count from then on.
    """

    key: str
    name: str
    path: str
    value: str
    if_exp: str | None
    began: int
    timeout: int

    @property
    def hash(self) -> int:
        """The filter by which an arriving event finds the wait; equality decides."""
        return match_hash(self.name, self.path, self.value)

    @property
    def piece(self) -> str | None:
        """What the data of any event with this value holds word for word; None where equal values are written apart."""
        return match_piece(self.value)


@dataclass(frozen=True, slots=True)
class OpenWait:
    """A wait that an arriving event may answer; `trigger` is its run's event, where a condition may ask for it.

    One of kind CANCEL ends its run; `trigger_id` is then the event that never does.
    """

    id: str
    run_id: str
    key: str
    name: str
    path: str
    value: str
    if_exp: str | None
    trigger: StoredEvent | None
    kind: str = "event"
    trigger_id: str | None = None
    branch: str = ""

    @property
    def cancels(self) -> bool:
        """True when its answer is the end of the run."""
        return self.kind == CANCEL


def is_path(path: object) -> bool:
    """True for the path of a field, such as `data.order_id`."""
    parts = path.split(".") if isinstance(path, str) and len(path) <= PATH_BOUND else []
    return len(parts) > 1 and parts[0] == "data" and all(parts)


def match_piece(value: str) -> str | None:
    """The piece of JSON by which events with this canonical value can be sought."""
    return None if value[:1] in ("", "[", "{") or _LONG_NUMBER.fullmatch(value) else value


def match_hash(name: str, path: str, value: str) -> int:
    """A signed 64-bit hash of what is waited for."""
    return hash64(f"{name}\0{path}\0{value}")


def value_at(data: Mapping[str, Any], path: str) -> Any:
    """The field at `data.a.b`, None when missing."""
    here: Any = {"data": data}
    for part in path.split("."):
        if not isinstance(here, Mapping):
            return None
        here = here.get(part)
    return here


def match_value(data: Mapping[str, Any], path: str) -> str | None:
    """Canonical JSON of the field, None when it is missing or null; '' for a wait by condition alone."""
    if path == CONDITION_ONLY:
        return ""
    found = value_at(data, path)
    return None if found is None else canonical(found)
