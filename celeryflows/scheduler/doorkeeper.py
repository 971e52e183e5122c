"""The doorkeeper: what a crash left at a door, a gate or in a slot is put right, and changed limits take effect."""

from dataclasses import dataclass, field

from celeryflows.durations import MINUTE
from celeryflows.engine.leaving import come_in, fill, free_stray, leave, rejoin, settle
from celeryflows.engine.runtime import Runtime
from celeryflows.flow_control.gates import room
from celeryflows.scheduler.sweeper import Broker
from celeryflows.store.branches import Unit
from celeryflows.store.connection import Connection

# Behind a throttle or concurrency: gates are named by their level, meters by a 0.
METERS = "0"
UNCLAIMED_AGE = MINUTE


def let_in(runtime: Runtime) -> int:
    """Let units pass their gates that came back and were left at the door; how many."""
    with runtime.store.connection() as connection:
        units = connection.standings.at_door()
    come_in(runtime, units)
    return len(units)


def fill_changed(runtime: Runtime) -> int:
    """Fill the gates whose limit has changed, a few units a transaction; how many were let in."""
    with runtime.store.connection() as connection:
        gates = connection.gate_audit.to_fill()
    return sum(fill(runtime, gate) for gate in gates)


def audit(runtime: Runtime) -> int:
    """Slots and lines that nobody looks after: hardly ever any; how many were put right."""
    with runtime.store.connection() as connection:
        book = runtime.catalog.read(connection).gates
        lines = connection.gate_audit.lines()
        strays = connection.gate_audit.strays()
        orphans = connection.gate_audit.orphans(runtime.settings.dead_after)
        for line, _ in lines:
            if line.startswith(METERS):
                connection.throttles.wake(line)
    found = 0
    for gate, held in lines:
        if not gate.startswith(METERS):
            number = book.number(gate)
            if number is None or room(number, held):
                found += fill(runtime, gate)
    for one in orphans:
        if one.worker:
            leave(runtime, one)
        else:
            settle(runtime, [one.id])
    found += sum(free_stray(runtime, *one) for one in strays)
    return found + len(orphans)


def rejoin_unclaimed(runtime: Runtime, broker: Broker) -> int:
    """Units that hold slots in a queue which no worker consumes give them up to those who wait; how many."""
    with runtime.store.connection() as connection:
        late = connection.messages.unclaimed(UNCLAIMED_AGE)
        if not late:
            return 0
        now = connection.now()
        living = [one for one in connection.workers.all() if now - one.beat_at < runtime.settings.dead_after]
        consumed = {queue for one in living for queue in one.queues.split(",")}
        idle = [one.delivery for one in late if broker.queue_of(one.delivery) not in consumed]
        units = connection.standings.of([(one.run_id, one.branch) for one in idle])
    holding = [one.unit for one in units if one.gates]
    for unit in holding:
        rejoin(runtime, unit)
    return len(holding)


def prune(runtime: Runtime) -> None:
    """Forget gates and meters that bound nobody for an hour."""
    with runtime.store.connection() as connection:
        connection.throttles.forget_idle()
        for gate in connection.gate_audit.idle():
            connection.transact(lambda tx, gate=gate: _prune(tx, gate))  # type: ignore[misc]


def _prune(tx: Connection, gate: str) -> None:
    tx.gates.hold([gate])
    tx.gate_audit.prune(gate)


@dataclass(slots=True)
class Doorkeeper:
    """The leader's own: it lets in what stood at the door when it looked before, too; the younger are on their way."""

    _seen: set[Unit] = field(default_factory=set)

    def let_in(self, runtime: Runtime) -> int:
        """Let in what was left there; how many."""
        with runtime.store.connection() as connection:
            units = set(connection.standings.at_door())
        left, self._seen = units & self._seen, units
        come_in(runtime, sorted(left))
        return 0
