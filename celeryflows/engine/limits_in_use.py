"""Every declared limit that holds units back, by its id, and how much of it is in use now."""

from collections.abc import Iterator
from dataclasses import dataclass

from celeryflows.durations import format_duration
from celeryflows.engine.catalog import Snapshot
from celeryflows.ids import derived_id
from celeryflows.store.connection import Connection
from celeryflows.store.limit_uses import LimitUse

CONCURRENCY, THROTTLE = "concurrency", "throttle"


@dataclass(frozen=True, slots=True)
class DeclaredLimit:
    """A concurrency limit or a throttle of a flow. `capacity`: how many at once for each value of its key; a throttle
    has a `rate` instead. `flow` of a limit that several share is one of them."""

    id: str
    kind: str
    flow: str
    scope: str
    key: str | None
    capacity: int | None
    rate: str | None = None


def declared_limits(catalog: Snapshot) -> dict[str, tuple[DeclaredLimit, ...]]:
    """The limits of each flow, in the order in which its runs pass them."""
    return {name: tuple(_of(catalog, name)) for name in catalog.flows}


def _of(catalog: Snapshot, name: str) -> Iterator[DeclaredLimit]:
    throttle = catalog.flows[name].limits.throttle
    if throttle is not None:
        rate = f"{throttle.limit:,} each {format_duration(throttle.json()['period'])}"
        yield DeclaredLimit(derived_id(THROTTLE, name), THROTTLE, name, "flow", throttle.key, None, rate)
    for gate in catalog.gates.by_flow.get(name, ()):
        yield DeclaredLimit(gate.id, CONCURRENCY, name, gate.scope, gate.key, catalog.gates.numbers.get(gate.id))


def limits_in_use(connection: Connection) -> list[LimitUse]:
    """What somebody holds or waits for now, all values of a key together."""
    waiting = connection.limit_uses.throttled()
    throttles = (LimitUse(derived_id(THROTTLE, flow), 0, count, keys, 0) for flow, (count, keys) in waiting.items())
    return [*connection.limit_uses.now(), *throttles]
