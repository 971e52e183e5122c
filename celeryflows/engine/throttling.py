"""Throttle: starts that come too fast stand in a line; the leader lets in what is due, on to the gates behind it.

A line belongs to its meter: whoever joins, lets in or looks holds that."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celeryflows.engine.catalog import Snapshot
from celeryflows.engine.holding import note_held, tell_held
from celeryflows.engine.passage import Passage
from celeryflows.engine.runtime import Runtime
from celeryflows.flow_control.gates import first_rank
from celeryflows.flow_control.throttle import after_change, after_start, due_at, meter_of
from celeryflows.model.limits import Throttle
from celeryflows.model.runs import Delivery, Status
from celeryflows.signals import LimitNews
from celeryflows.store.branches import Unit
from celeryflows.store.connection import Connection
from celeryflows.store.throttles import Meter

AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Asker:
    """A start that a throttle may delay."""

    unit: Unit
    meter: str
    flow: str
    value: str | None
    rate: Throttle
    priority: int
    created_at: int | None = None


def asker(
    catalog: Snapshot,
    unit: Unit,
    flow: str,
    scope: Mapping[str, Any],
    *,
    priority: int = 0,
    created_at: int | None = None,
) -> Asker | None:
    """What a start asks of its flow's throttle; None without one."""
    definition = catalog.flows.get(flow)
    if definition is None or definition.limits.throttle is None:
        return None
    rate = definition.limits.throttle
    meter, value = meter_of(flow, rate, scope)
    return Asker(unit, meter, flow, value, rate, priority, created_at)


def hold_meters(tx: Connection, askers: Iterable[Asker]) -> None:
    """Lock class 3."""
    meters = {(one.meter, one.flow, one.value) for one in askers}
    if meters:
        tx.throttles.hold(meters)


def ask(tx: Connection, askers: Sequence[Asker]) -> dict[Unit, tuple[str, int]]:
    """Of starts whose meters are held, those that have to wait: the line, and their place in it."""
    if not askers:
        return {}
    now = tx.now()
    held: dict[Unit, tuple[str, int]] = {}
    by_meter: dict[str, list[Asker]] = {}
    for one in askers:
        by_meter.setdefault(one.meter, []).append(one)
    for key, its in sorted(by_meter.items()):
        meter = tx.throttles.get(key)
        assert meter is not None
        held |= _ask(tx, meter, its, now)
    return held


def _ask(tx: Connection, meter: Meter, askers: Sequence[Asker], now: int) -> dict[Unit, tuple[str, int]]:
    rate, tat, waiting = askers[0].rate, meter.tat, []
    ranked = [(first_rank(one.created_at or now, one.priority), one.unit) for one in askers]
    for rank, unit in sorted(ranked):
        if meter.next_at is None and due_at(rate, tat) <= now:
            tat = after_start(rate, tat, now)
        else:
            waiting.append((rank, unit))
    tx.gates.join(meter.key, waiting)
    next_at = meter.next_at
    if next_at is None and waiting:
        next_at = due_at(rate, tat)
    tx.throttles.set(meter.key, tat, next_at)
    return {unit: (meter.key, rank) for rank, unit in waiting}


def let_in_due(runtime: Runtime) -> int:
    """Let in what is due of every line; how many lines were looked at."""
    with runtime.store.connection() as connection:
        due = connection.throttles.due()
    for meter in due:
        deliveries = _let_in(runtime, meter)
        if deliveries:
            runtime.dispatcher.send_runs(deliveries)
    return len(due)


def _let_in(runtime: Runtime, due: Meter) -> list[Delivery]:
    tried: list[Delivery] = []
    held: list[LimitNews] = []

    def work(tx: Connection) -> list[Delivery]:
        catalog = runtime.catalog.read(tx)
        tx.throttles.hold([(due.key, due.flow, None)])
        meter, now = tx.throttles.get(due.key), tx.now()
        if meter is None or meter.next_at is None or meter.next_at > now:
            return tried
        flow = catalog.flows.get(due.flow)
        passage = Passage(tx, catalog.gates)
        tat = _called(tx, passage, meter, flow.limits.throttle if flow is not None else None, now)
        called = dict.fromkeys(passage.moved, due.flow)
        passage.go()
        passage.lock()
        held[:] = note_held(tx, passage, called)
        tried[:] = passage.write()
        rate = flow.limits.throttle if flow is not None else None
        following = (now if rate is None else due_at(rate, tat)) if tx.gates.has_line(due.key) else None
        tx.throttles.set(due.key, tat, following)
        return tried

    deliveries = runtime.store.transact(work)
    tell_held(held)
    return deliveries


def _called(tx: Connection, passage: Passage, meter: Meter, rate: Throttle | None, now: int) -> int:
    """Take out of the line what is due, each on to its gates; the meter after that."""
    tat = meter.tat if rate is None else after_change(rate, meter.tat, now)
    called = 0
    while called < AT_ONCE and (rate is None or due_at(rate, tat) <= now):
        unit = tx.gates.pop(meter.key)
        if unit is None:
            break
        for one in tx.standings.of([unit]):
            if one.status == Status.QUEUED and one.held_at == meter.key:
                passage.resume(one)
                called += 1
                if rate is not None:
                    tat = after_start(rate, tat, now, late=True)
    return tat
