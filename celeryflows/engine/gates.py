"""Gates: throttle and concurrency, the last that a start passes. What does not fit is held in the store, in a line."""

from collections.abc import Sequence
from dataclasses import replace

from celeryflows.engine.catalog import Snapshot
from celeryflows.engine.leaving import pass_out
from celeryflows.engine.passage import Passage, Traveller
from celeryflows.engine.runtime import Runtime
from celeryflows.engine.starts import Start
from celeryflows.engine.throttling import Asker, ask, asker, hold_meters
from celeryflows.flow_control.gates import Gate
from celeryflows.model.events import StoredEvent
from celeryflows.model.runs import NewRun, Place, Reached, Status
from celeryflows.store.connection import Connection
from celeryflows.store.runs import Claim
from celeryflows.store.standings import DOOR


def lock_meters(tx: Connection, catalog: Snapshot, starts: Sequence[Start]) -> None:
    """Lock class 3: the meters of throttles that these may meet in `enter`."""
    hold_meters(tx, _askers(catalog, starts))


def _askers(catalog: Snapshot, starts: Sequence[Start]) -> list[Asker]:
    found = [
        asker(catalog, (one.run.id, ""), one.run.flow, one.scope, priority=_priority(one))
        for one in starts
        if one.may_start and one.limits.throttle is not None
    ]
    return [one for one in found if one is not None]


def enter(tx: Connection, catalog: Snapshot, starts: Sequence[Start], passage: Passage | None = None) -> list[Start]:
    """Lock class 6: those that may start now enter their gates or are held there; their runs are not written yet.

    Each `start.may_start` gets the place of its run (`NewRun.place`): gates, slots, or where it is held. Of those that
    are scheduled the gates are noted, for the keys count as they are now. `passage`: what else passes gates in the
    transaction.
    """
    book = catalog.gates
    # A raised limit may have room beside a line: those who wait there are the leader's to let in.
    passage = passage or Passage(tx, book, calls=0)
    askers = _askers(catalog, starts)
    delayed, values = ask(tx, askers), {one.unit: one.value for one in askers}
    gates = [book.gates(one.run.flow, one.scope) if one.is_under_way else () for one in starts]
    on_the_way = [
        passage.start((one.run.id, ""), its, _priority(one))
        if its and one.may_start and (one.run.id, "") not in delayed
        else None
        for one, its in zip(starts, gates, strict=True)
    ]
    passage.go()
    for traveller in on_the_way:
        if traveller is not None:
            passage.take_out(traveller.unit)
    placed = [
        _placed(one, its, traveller) if its else one
        for one, its, traveller in zip(starts, gates, on_the_way, strict=True)
    ]
    units = [(one.run.id, "") for one in placed]
    return [_held(catalog, one, delayed.get(unit), values.get(unit)) for one, unit in zip(placed, units, strict=True)]


def _held(catalog: Snapshot, start: Start, line: tuple[str, int] | None, value: str | None) -> Start:
    """In the line of a throttle; one that starts later asks there when its time has come."""
    place = start.run.place or Place()
    if line is not None:
        place = replace(place, held_at=line[0], rank=line[1])
        return replace(start, run=replace(start.run, place=place, reached=Reached("throttle", value)))
    if (
        start.run.status is Status.SCHEDULED
        and start.joined is None
        and not start.waits
        and catalog.has_throttle(start.run.flow)
    ):
        return replace(start, run=replace(start.run, place=replace(place, held_at=DOOR)))
    return start


def _priority(start: Start) -> int:
    return (start.run.place.priority or 0) if start.run.place is not None else 0


def _placed(start: Start, gates: Sequence[Gate], traveller: Traveller | None) -> Start:
    names = [gate.name for gate in gates]
    place = place_of(start.run.place or Place(), names, traveller)
    held = next((gate for gate in gates if traveller is not None and gate.name == traveller.held_at), None)
    reached = start.run.reached if held is None else Reached("concurrency", held.value)
    return replace(start, run=replace(start.run, place=place, reached=reached))


def place_of(place: Place, gates: Sequence[str], traveller: Traveller | None) -> Place:
    """The place of a new run with these gates, after its way through them."""
    first, second = (*gates, None, None)[:2]
    if traveller is None:
        return replace(place, g1=first, g2=second)
    one, two = (*traveller.numbers, None, None)[:2]
    return replace(place, g1=first, g2=second, n1=one, n2=two, held_at=traveller.held_at, rank=traveller.rank)


def heir(
    runtime: Runtime, tx: Connection, claim: Claim, run: NewRun, event: StoredEvent, passage: Passage | None
) -> Place | None:
    """A run goes on for another: in its slots when it passes the same gates, else it asks at its own afterwards."""
    if passage is None and run.flow not in runtime.catalog.latest.gates.by_flow:
        return run.place
    names = tuple(gate.name for gate in runtime.catalog.read(tx).gates_of(run.flow, event))
    place = run.place or Place()
    if passage is not None and names == claim.gates:
        passage.hand_over(claim, (run.id, ""))
        one, two = (*claim.numbers, None, None)[:2]
        return replace(place_of(place, names, None), n1=one, n2=two)
    pass_out(passage, claim.unit)
    return replace(place_of(place, names, None), held_at=DOOR) if names else run.place
