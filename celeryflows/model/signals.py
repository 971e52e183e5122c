"""A signal: a name, data, and the one run that waits for it. How it may be named stands here."""

from dataclasses import dataclass
from typing import Any

from celeryflows.errors import InvalidEvent
from celeryflows.ids import hash64
from celeryflows.model.events import check_name

FAIL, REPLACE = "fail", "replace"


@dataclass(frozen=True, slots=True)
class Signal:
    """What woke a run that waited for it. `data` is any value that can be stored, in its stored form."""

    name: str
    data: Any = None


@dataclass(frozen=True, slots=True)
class SignalSpec:
    """A wait for a signal. `replaces`: it takes the place of who waits already."""

    key: str
    name: str
    replaces: bool
    began: int

    @property
    def hash(self) -> int:
        """Under which it stands among the open waits, and its stripe."""
        return signal_hash(self.name)


def signal_hash(name: str) -> int:
    """Apart from the hashes of waits for events of that name."""
    return hash64(f"signal\0{name}")


def check_signal_name(name: object) -> str:
    """Return the name, or raise InvalidEvent: the rules are those of events."""
    try:
        return check_name(name)
    except InvalidEvent as error:
        raise InvalidEvent(str(error).replace("event name", "signal name", 1)) from None
