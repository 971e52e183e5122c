"""The load: items of every kind of flow, what is sent for each, and the ends that are allowed.

`loads/<kind>` starts `mixed.<kind>`. What else has to hold of a kind stands in laws.py."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from celeryflows import Event

COMPLETED, FAILED, CANCELLED, SKIPPED = "completed", "failed", "cancelled", "skipped"
USERS = 3


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of flow. `ends` are the ends that one of its runs may have; `spared` that some of its events may have no
    run of their own that did its work; `makes` the flows of which each of its runs starts one run; `each` how many come
    at once, more than a limit lets in."""

    name: str
    ends: frozenset[str] = frozenset({COMPLETED})
    spared: str | None = None
    makes: tuple[str, ...] = ()
    each: int = 1


def _kind(name: str, end: str = COMPLETED, spared: str | None = None, makes: Iterable[str] = (), each: int = 1) -> Kind:
    return Kind(name, frozenset({end}), spared, tuple(makes), each)


PLAIN = ("ten", "nap", "answered", "provokes", "unanswered", "signalled", "parallel", "races", "awaits", "tasks")
KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        # Many of one list travel together.
        _kind("one", each=16),
        *map(_kind, PLAIN),
        *map(_kind, ("books", "retries", "catches", "called")),
        _kind("invokes", makes=["child"]),
        _kind("sends", makes=["heard"]),
        _kind("goes_on", makes=["goes_on"]),
        _kind("fails", FAILED, makes=["fails.on_failure"]),
        _kind("stopped", CANCELLED),
        _kind("lingers", each=2),
        _kind("keyed", each=6),
        _kind("ranked", each=4),
        _kind("throttled", each=6),
        _kind("rated", spared="rate", each=12),
        _kind("single", spared="user", each=6),
        _kind("once", spared="value", each=2),
        _kind("bounced", spared="value", each=3),
        _kind("batched", spared="batch", each=5),
    )
}
# Sent by faults alone.
SPECIAL: dict[str, Kind] = {
    kind.name: kind for kind in (_kind("poison", FAILED), _kind("bulky"), _kind("too_big", FAILED))
}
ALL = KINDS | SPECIAL
# Started by others, or by the clock.
BESIDE = ("child", "heard", "fails.on_failure", "ticks")


@dataclass(frozen=True, slots=True)
class Item:
    """One of the load. `id` is that of its event, or of its call."""

    id: str
    kind: str
    no: int

    @property
    def data(self) -> dict[str, object]:
        """What its flow is given."""
        prefix = self.id.partition(".")[0]
        user = f"{prefix}.u{self.no % USERS}"
        return {"id": self.id, "no": self.no, "user": user, "value": f"{prefix}.v{self.no // 2}"}

    def event(self) -> Event:
        """What starts it."""
        return Event(f"load/{self.kind}", self.data, id=self.id)


@dataclass(slots=True)
class Load:
    """What was accepted in a round: items whose send or call returned."""

    prefix: str
    accepted: list[Item] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def next(self, kinds: Iterable[str], times: int = 1) -> list[Item]:
        """A portion of each kind, or several."""
        found = []
        for kind in kinds:
            first = self.counts.get(kind, 0)
            self.counts[kind] = first + ALL[kind].each * times
            numbers = range(first, self.counts[kind])
            found += [Item(f"{self.prefix}.{kind}.{number}", kind, number) for number in numbers]
        return found

    def of(self, kind: str) -> list[Item]:
        """The accepted ones of a kind."""
        return [item for item in self.accepted if item.kind == kind]
