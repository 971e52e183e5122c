"""The declared flows as the store has them, read again when their version changes."""

from dataclasses import dataclass, field
from typing import Any

from celeryflows.engine.matching import LIFECYCLE, TriggerIndex
from celeryflows.flow_control.gates import Gate, GateBook
from celeryflows.model.calls import roots
from celeryflows.model.events import StoredEvent
from celeryflows.model.flows import FlowDefinition, read_definition
from celeryflows.store.connection import Connection

FRESH_FOR = 1.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The flows of one version, those that are paused, and those of our own events that waits look for."""

    version: str
    flows: dict[str, FlowDefinition] = field(default_factory=dict)
    index: TriggerIndex = field(default_factory=TriggerIndex)
    awaited: frozenset[str] = frozenset()
    paused: frozenset[str] = frozenset()
    gates: GateBook = field(default_factory=GateBook)

    def has_gates(self, flow: str) -> bool:
        """True when the flow's runs may be held."""
        return flow in self.gates.by_flow or self.has_throttle(flow)

    def scope(self, flow: str, event: StoredEvent) -> dict[str, Any]:
        """What the keys of the flow's limits see of an event."""
        return roots(self.flows.get(flow), event)

    def gates_of(self, flow: str, event: StoredEvent) -> tuple[Gate, ...]:
        """The gates of a run of the flow that starts with this event."""
        return self.gates.gates(flow, self.scope(flow, event))

    def has_throttle(self, flow: str) -> bool:
        """True when the flow's starts may be delayed."""
        known = self.flows.get(flow)
        return known is not None and known.limits.throttle is not None

    def tells(self, name: str) -> bool:
        """True when a flow starts at such events of ours, or a wait may look for them."""
        return self.index.listens(name) or name in self.awaited


class Catalog:
    """A cache of the stored flows for one process; what it says is recent is at most `fresh_for` seconds old."""

    def __init__(self, fresh_for: float = FRESH_FOR) -> None:
        self._fresh_for = fresh_for
        self._snapshot = Snapshot(version="")
        self._looked = float("-inf")

    def read(self, connection: Connection, version: str | None = None) -> Snapshot:
        """The flows as they stand now: one look at their version, unless the caller has just had it."""
        version = connection.flows.version() if version is None else version
        if version != self._snapshot.version:
            connection.flows.check_keys()
            stored = [f for f in connection.flows.all() if f.removed_at is None]
            flows = {f.name: read_definition(f.name, f.definition) for f in stored}
            awaited = frozenset(connection.waits.shapes(LIFECYCLE))
            paused = frozenset(f.name for f in stored if f.paused_at is not None)
            gates = GateBook.of((f.app, flows[f.name]) for f in stored)
            self._snapshot = Snapshot(version, flows, TriggerIndex.of(flows.values()), awaited, paused, gates)
        return self._snapshot

    @property
    def latest(self) -> Snapshot:
        """The flows as this process saw them last, however long ago."""
        return self._snapshot

    def recent(self, connection: Connection, monotonic: float) -> Snapshot:
        """The flows as they stood a short while ago."""
        if monotonic - self._looked >= self._fresh_for:
            self.read(connection)
            self._looked = monotonic
        return self._snapshot
