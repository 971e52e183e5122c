"""Gates: which of them a run passes by its concurrency limits, in which order, and how many each lets in at once.

A gate is a limit with one value of its key. Names sort as gates are locked: keyed ones first, flow-wide ones last."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from celeryflows.codec import canonical
from celeryflows.expressions import compile_expression, value_or_none
from celeryflows.ids import derived_id
from celeryflows.model.flows import FlowDefinition
from celeryflows.model.limits import Concurrency
from celeryflows.model.triggers import KEY_NAMES

KEYED, WIDE = 1, 2


@dataclass(frozen=True, slots=True)
class GateLimit:
    """One concurrency limit of a flow: its id, whoever shares it, and how many turns it lets in."""

    id: str
    level: int
    flow: str
    key: str | None
    number: int
    scope: str = "flow"

    def gate(self, scope: Mapping[str, Any]) -> "Gate":
        """The gate of a run, whose expressions see `scope`."""
        value = None
        if self.key is not None:
            compiled = compile_expression(self.key, names=KEY_NAMES, what=f"concurrency of flow {self.flow!r}")
            found, _ = value_or_none(compiled, scope)
            value = canonical(found)
        return Gate(f"{self.level}{self.id}{derived_id(value or '')}", self, value)


@dataclass(frozen=True, slots=True)
class Gate:
    """A limit with one value of its key, as canonical JSON; None for a limit without key."""

    name: str
    limit: GateLimit
    value: str | None


def limit_of(gate: str) -> str:
    """The id of the limit that a gate belongs to."""
    return gate[1:27]


def gate_limits(app: str, flow: FlowDefinition) -> tuple[GateLimit, ...]:
    """The limits of a flow in the order in which its runs pass them."""
    wide = [one.limit for one in flow.limits.concurrency if one.key is None]
    limits = [_gate_limit(app, flow, one, min([one.limit, *wide])) for one in flow.limits.concurrency]
    return tuple(sorted(limits, key=lambda one: (one.level, one.id)))


def _gate_limit(app: str, flow: FlowDefinition, one: Concurrency, least: int) -> GateLimit:
    # A keyed limit above the flow-wide one counts as that: the wide line then holds few runs of one key.
    owner = app if one.scope == "app" else flow.name
    number = one.limit if one.scope == "app" else least
    level = WIDE if one.key is None else KEYED
    limit_id = derived_id("limit", one.scope, owner, one.key or "")
    return GateLimit(limit_id, level, flow.name, one.key, number, one.scope)


@dataclass(frozen=True, slots=True)
class GateBook:
    """The limits of all declared flows. Of flows that share one with different numbers the smallest counts."""

    by_flow: Mapping[str, tuple[GateLimit, ...]] = field(default_factory=dict)
    numbers: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, flows: Iterable[tuple[str, FlowDefinition]]) -> "GateBook":
        """The book of flows, each with its app."""
        by_flow = {flow.name: gate_limits(app, flow) for app, flow in flows if flow.limits.concurrency}
        numbers: dict[str, int] = {}
        for limits in by_flow.values():
            for one in limits:
                numbers[one.id] = min(one.number, numbers.get(one.id, one.number))
        return cls(by_flow, numbers)

    def gates(self, flow: str, scope: Mapping[str, Any]) -> tuple[Gate, ...]:
        """The gates of a run of the flow, whose expressions see `scope`."""
        return tuple(limit.gate(scope) for limit in self.by_flow.get(flow, ()))

    def number(self, gate: str) -> int | None:
        """How many the gate lets in at once; None when no flow declares its limit any more."""
        return self.numbers.get(limit_of(gate))

    def limit(self, gate: str) -> GateLimit | None:
        """The limit of a gate, as one of the flows declares it."""
        wanted = limit_of(gate)
        return next((one for its in self.by_flow.values() for one in its if one.id == wanted), None)


def room(number: int, occupied: int) -> int:
    """How many more a gate lets in."""
    return max(0, number - occupied)


def shown_value(value: str | None) -> Any:
    """A key's value for people."""
    return None if value is None else json.loads(value)


def first_rank(created_at: int, priority: int) -> int:
    """The place in the first line: the older first, a head start counts as age."""
    return created_at - priority
