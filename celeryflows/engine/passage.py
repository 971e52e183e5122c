"""The way through the gates: who leaves frees its slots for the head of the line, who enters takes one or joins a line.

One passage a transaction, before any row of a group, run or branch is locked. Gates are passed in ascending order."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from celeryflows.engine.entering import Arrivals, enter_together
from celeryflows.engine.units import lock_units
from celeryflows.flow_control.gates import Gate, GateBook, first_rank, room
from celeryflows.model.runs import Delivery, Status
from celeryflows.store.branches import Unit, deliveries_of
from celeryflows.store.connection import Connection, TransientError
from celeryflows.store.runs import Claim
from celeryflows.store.standings import Spot, Standing

CALLED_AT_ONCE = 20


@dataclass(slots=True)
class Traveller:
    """A unit on its way: the numbers that it has got so far, and where it is held. `created_at` None: it is new;
    `was_at`: where its row says that it is held."""

    unit: Unit
    gates: tuple[str, ...]
    priority: int = 0
    created_at: int | None = None
    numbers: list[int | None] = field(default_factory=list)
    held_at: str | None = None
    rank: int | None = None
    was_at: str | None = None

    def spot(self) -> Spot:
        """Where it stands now."""
        return Spot(self.unit, tuple(self.numbers), self.held_at, self.rank, self.was_at)


@dataclass(slots=True)
class Stop:
    """What is to do at one gate."""

    leaving: list[tuple[Unit, int]] = field(default_factory=list)
    arriving: list[Traveller] = field(default_factory=list)
    fill: int = 0


class Passage:
    """Of one transaction. `moved` are the units that entered or were let in, and how they stand.

    Who leaves must ask its own fence too: what it does not hold any more is left as it is. `calls`: how many who wait
    it may let in beside those that it is for; 0 where nobody would `write` them. `shared`: gates whose lock the
    transaction shares by now, and of which nobody holds a number above the limit.
    """

    def __init__(self, tx: Connection, book: GateBook, calls: int = CALLED_AT_ONCE, shared: Sequence[str] = ()) -> None:
        self._tx = tx
        self._book = book
        self._calls = calls
        self._stops: dict[str, Stop] = {}
        self._held: set[str] = set()
        self._shared = shared
        self._known: dict[str, Gate] = {}
        self._now: int | None = None
        self.moved: dict[Unit, Traveller] = {}
        self.deliveries: list[Delivery] = []

    # -- what is to be done

    def leave(self, unit: Unit, gates: Sequence[str], numbers: Sequence[int | None]) -> None:
        """The unit gives its slots up."""
        for gate, no in zip(gates, numbers, strict=False):
            if no is not None:
                self._stop(gate).leaving.append((unit, no))

    def hand_over(self, claim: Claim, unit: Unit) -> None:
        """Another unit goes on in the claim's slots, which nobody leaves then."""
        self._stops.clear()
        for gate, no in zip(claim.gates, claim.numbers, strict=False):
            if no is not None:
                self._tx.gates.share(gate)
                self._tx.gates.pass_to(gate, no, claim.unit, unit)

    def start(self, unit: Unit, gates: Sequence[Gate], priority: int = 0) -> Traveller:
        """A new run enters."""
        self._known.update((gate.name, gate) for gate in gates)
        return self._enter(Traveller(unit, tuple(gate.name for gate in gates), priority))

    def resume(self, one: Standing) -> Traveller:
        """A unit that slept, waited or was not there yet enters."""
        return self._enter(Traveller(one.unit, one.gates, one.priority, one.created_at, was_at=one.held_at))

    def wait(self, one: Standing, line: str, rank: int) -> None:
        """A unit stands in a line before its gates."""
        waiting = Traveller(one.unit, one.gates, one.priority, one.created_at, was_at=one.held_at)
        waiting.held_at, waiting.rank = line, rank
        self.moved[one.unit] = waiting

    def rejoin(self, one: Standing) -> None:
        """A unit that nobody takes gives its slots up and stands behind all who wait."""
        self.leave(one.unit, one.gates, one.numbers)
        self._enter(Traveller(one.unit, one.gates, one.priority, was_at=one.held_at))

    def fill(self, gate: str, most: int) -> None:
        """Let in up to so many who wait, as far as there is room."""
        self._stop(gate).fill = most

    def _enter(self, traveller: Traveller) -> Traveller:
        self.moved[traveller.unit] = traveller
        if traveller.gates:
            self._arrive(traveller)
        return traveller

    def _stop(self, gate: str) -> Stop:
        return self._stops.setdefault(gate, Stop())

    # -- the way

    def go(self) -> None:
        """Pass all gates, in the order of their locks: what follows from one happens at a later one."""
        self._enter_together()
        while self._stops:
            gate = min(self._stops)
            self._pass(gate, self._stops.pop(gate))

    def _enter_together(self) -> None:
        """Where all do nothing but enter."""
        gates: dict[str, Arrivals] = {}
        for gate, stop in self._stops.items():
            number = self._book.number(gate)
            if number is None or stop.leaving or stop.fill:
                return
            further = tuple(later for one in stop.arriving for later in one.gates[len(one.numbers) + 1 :])
            gates[gate] = Arrivals(tuple(one.unit for one in stop.arriving), number, further)
        entered = enter_together(self._tx, gates)
        self._held |= entered.alone
        for gate, no in sorted(entered.numbers.items()):
            self._let_in(self._stops.pop(gate).arriving[0], no)

    def _pass(self, gate: str, stop: Stop) -> None:
        number = self._book.number(gate)
        single = len(stop.arriving) + bool(stop.leaving) == 1
        if number is None or stop.fill or not single:
            self._pass_alone(gate, stop, number)
        elif stop.leaving:
            self._pass_on(gate, stop, number)
        else:
            self._take(gate, stop, number)

    def _take(self, gate: str, stop: Stop, number: int) -> None:
        traveller = stop.arriving[0]
        no = self._tx.gates.share_and_take(gate, traveller.unit, number)
        if no is None:
            self._pass_alone(gate, stop, number)
        else:
            self._let_in(traveller, no)

    def _pass_on(self, gate: str, stop: Stop, number: int) -> None:
        if gate not in self._shared and self._tx.gates.share_unless_lowered(gate, number):
            self._held.add(gate)
            self._pass_alone(gate, stop, number)
            return
        for unit, no in stop.leaving:
            owner = unit
            while (following := self._tx.gates.hand_on(gate, no, owner)) is not None:
                traveller = self._waiting(gate, [following]).get(following)
                if traveller is not None:
                    self._let_in(traveller, no)
                    break
                owner = following
                # What is left in the line of somebody who was cancelled: on to the next.

    def _pass_alone(self, gate: str, stop: Stop, number: int | None) -> None:
        gates = self._tx.gates
        if gate not in self._held:
            gates.hold([gate])
            self._held.add(gate)
        for unit, no in stop.leaving:
            gates.vacate(gate, no, unit)
        if number is None:
            self._open(gate, stop)
        else:
            self._fill(gate, stop, number)

    def _fill(self, gate: str, stop: Stop, number: int) -> None:
        """Who arrives stands behind those who wait; then as many go in as there is room for."""
        gates = self._tx.gates
        occupied, highest = gates.count(gate)
        space = room(number, occupied)
        if highest > number:
            gates.shrink(gate, number)
            highest = number
        arriving = sorted(stop.arriving, key=lambda one: (self._rank(one), one.unit))
        has_line = gates.has_line(gate)
        entering = [] if has_line else arriving[:space]
        waiting = arriving[len(entering) :]
        self._stand_in_line(gate, waiting)
        if has_line and space:
            entering = self._call(gate, min(space, stop.fill or self._calls))
        if entering:
            numbers = gates.give(gate, [one.unit for one in entering], number, highest)
            for traveller, no in zip(entering, numbers, strict=True):
                self._let_in(traveller, no)
            if max(numbers) > highest:
                gates.grow(gate, max(numbers), number)
        if waiting or (entering and not highest):
            self._note(gate)

    def _open(self, gate: str, stop: Stop) -> None:
        """No flow declares the limit any more: all go in, and hold nothing."""
        for traveller in [*stop.arriving, *self._call(gate, stop.fill or self._calls)]:
            self._let_in(traveller, None)

    def _let_in(self, traveller: Traveller, no: int | None) -> None:
        traveller.numbers.append(no)
        traveller.held_at = None
        self.moved[traveller.unit] = traveller
        if len(traveller.numbers) < len(traveller.gates):
            self._arrive(traveller)

    def _arrive(self, traveller: Traveller) -> None:
        self._stop(traveller.gates[len(traveller.numbers)]).arriving.append(traveller)

    def _stand_in_line(self, gate: str, waiting: Sequence[Traveller]) -> None:
        for one in waiting:
            one.held_at, one.rank = gate, self._rank(one)
        self._tx.gates.join(gate, [(one.rank or 0, one.unit) for one in waiting])

    def _rank(self, one: Traveller) -> int:
        """At the first gate by age, at the second by arrival: there the keys take turns."""
        if self._now is None:
            self._now = self._tx.now()
        since = one.created_at if one.created_at is not None and not one.numbers else self._now
        return first_rank(since, one.priority)

    def _call(self, gate: str, most: int) -> list[Traveller]:
        called: list[Traveller] = []
        while len(called) < most:
            units = self._tx.gates.pop_many(gate, most - len(called))
            found = self._waiting(gate, units)
            called += [found[unit] for unit in units if unit in found]
            if not units:
                break
        return called

    def _waiting(self, gate: str, units: Sequence[Unit]) -> dict[Unit, Traveller]:
        """Those of the units that do wait there, taken out of the line already."""
        found = {unit: one for unit in units if (one := self.moved.get(unit)) is not None and one.held_at == gate}
        others = [unit for unit in units if unit not in found]
        for its in self._tx.standings.of(others) if others else ():
            if its.status == Status.QUEUED and its.held_at == gate:
                passed = list(its.numbers[: its.gates.index(gate)])
                found[its.unit] = Traveller(its.unit, its.gates, its.priority, its.created_at, passed, was_at=gate)
        return found

    def _note(self, gate: str) -> None:
        known = self._known.get(gate)
        limit = known.limit if known is not None else self._book.limit(gate)
        if limit is not None:
            value = known.value if known is not None else None
            self._tx.gates.know(
                [{"key": gate, "level": limit.level, "limit": limit.id, "flow": limit.flow, "value": value}]
            )

    # -- what it came to

    def take_out(self, unit: Unit) -> None:
        """The unit's row is written by the caller."""
        self.moved.pop(unit, None)

    def lock(self, *own: Unit) -> None:
        """Take the rows of those that moved, and with them those that the caller writes."""
        if self.moved:
            lock_units(self._tx, {*self.moved, *own})

    def write(self) -> list[Delivery]:
        """Write where those stand that moved, before the caller writes, for it may cancel one of them; the messages of
        those that may start.

        Raises TransientError when one was cancelled meanwhile: all is to be done again.
        """
        started: list[Unit] = []
        for unit in sorted(self.moved):
            one = self.moved[unit]
            if not self._tx.standings.place(one.spot()):
                raise TransientError(f"{unit} left its line while it was let in")
            if one.held_at is None:
                started.append(unit)
        self.moved.clear()
        self.deliveries += deliveries_of(self._tx.branches, started)
        return self.deliveries
