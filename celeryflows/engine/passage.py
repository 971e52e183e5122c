"""The way through the gates: who leaves frees its slots for the head of the line, who enters takes one or joins a line.

One passage a transaction, before any row of a group, run or branch is locked. Gates are passed in ascending order."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from celeryflows.flow_control.gates import Gate, GateBook, first_rank, room
from celeryflows.model.runs import Delivery, Status
from celeryflows.store.branches import Unit, deliveries_of
from celeryflows.store.connection import Connection
from celeryflows.store.gates import Spot, Standing

CALLED_AT_ONCE = 20


@dataclass(slots=True)
class Traveller:
    """A unit on its way: the numbers that it has got so far, and where it was held. `created_at` None: it is new."""

    unit: Unit
    gates: tuple[str, ...]
    priority: int = 0
    created_at: int | None = None
    numbers: list[int | None] = field(default_factory=list)
    held_at: str | None = None
    rank: int | None = None

    def spot(self) -> Spot:
        """Where it stands now."""
        return Spot(self.unit, tuple(self.numbers), self.held_at, self.rank)


@dataclass(slots=True)
class Stop:
    """What is to do at one gate."""

    leaving: list[tuple[Unit, int]] = field(default_factory=list)
    arriving: list[Traveller] = field(default_factory=list)
    withdrawing: list["Withdrawal"] = field(default_factory=list)
    fill: int = 0


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """Units of a run that are cancelled: the run with all its branches, or the branches below a prefix."""

    run_id: str
    prefix: str | None = None

    def means(self, one: Standing) -> bool:
        """True for a unit that it is about."""
        if one.run_id != self.run_id:
            return False
        return self.prefix is None or (one.path != "" and one.path.startswith(self.prefix))


class Passage:
    """Of one transaction. `moved` are the units that entered or were let in, and how they stand; `missed`: somebody who
    left did not hold what it said, so the caller's own fence will refuse."""

    def __init__(self, tx: Connection, book: GateBook) -> None:
        self._tx = tx
        self._book = book
        self._stops: dict[str, Stop] = {}
        self._alone: set[str] = set()
        self._held: set[str] = set()
        self._known: dict[str, Gate] = {}
        self._now: int | None = None
        self.moved: dict[Unit, Traveller] = {}
        self.freed: set[Unit] = set()
        self.missed = False

    # -- what is to be done

    def leave(self, unit: Unit, gates: Sequence[str], numbers: Sequence[int | None]) -> None:
        """The unit gives its slots up."""
        for gate, no in zip(gates, numbers, strict=False):
            if no is not None:
                self._stop(gate).leaving.append((unit, no))

    def start(self, unit: Unit, gates: Sequence[Gate], priority: int = 0) -> Traveller:
        """A new run enters."""
        self._known.update((gate.name, gate) for gate in gates)
        return self._enter(Traveller(unit, tuple(gate.name for gate in gates), priority))

    def resume(self, one: Standing) -> Traveller:
        """A unit that slept, waited or was not there yet enters."""
        return self._enter(Traveller(one.unit, one.gates, one.priority, one.created_at))

    def withdraw(self, run_id: str, gates: Iterable[str], prefix: str | None = None) -> None:
        """Units that are cancelled leave slots and lines; those that are running keep theirs until the turn leaves."""
        for gate in gates:
            self._stop(gate).withdrawing.append(Withdrawal(run_id, prefix))

    def fill(self, gate: str, most: int) -> None:
        """Let in up to so many who wait, as far as there is room."""
        self._stop(gate).fill = most

    def hold(self, gates: Iterable[str]) -> None:
        """Pass these gates alone: more is to be done at them in this transaction."""
        for gate in gates:
            self._stop(gate)
            self._alone.add(gate)

    def _enter(self, traveller: Traveller) -> Traveller:
        self.moved[traveller.unit] = traveller
        self._arrive(traveller)
        return traveller

    def _stop(self, gate: str) -> Stop:
        return self._stops.setdefault(gate, Stop())

    # -- the way

    def go(self) -> None:
        """Pass all gates, in the order of their locks: what follows from one happens at a later one."""
        while self._stops:
            gate = min(self._stops)
            self._pass(gate, self._stops.pop(gate))

    def _pass(self, gate: str, stop: Stop) -> None:
        number = self._book.number(gate)
        single = len(stop.arriving) + bool(stop.leaving) == 1
        if number is None or gate in self._alone or stop.withdrawing or stop.fill or not single:
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
        if self._tx.gates.share_unless_lowered(gate, number):
            self._held.add(gate)
            self._pass_alone(gate, stop, number)
            return
        for unit, no in stop.leaving:
            owner, mine = unit, True
            while True:
                was_owners, following = self._tx.gates.hand_on(gate, no, owner)
                self.missed |= mine and not was_owners
                if following is None:
                    break
                traveller = self._waiting(gate, [following]).get(following)
                if traveller is not None:
                    self._let_in(traveller, no)
                    break
                # A line that is left of somebody who is not there any more.
                owner, mine = following, False

    def _pass_alone(self, gate: str, stop: Stop, number: int | None) -> None:
        gates = self._tx.gates
        if gate not in self._held:
            gates.hold([gate])
            self._held.add(gate)
        for unit, no in stop.leaving:
            self.missed |= not gates.vacate(gate, no, unit)
        if stop.withdrawing:
            self._withdraw(gate, stop.withdrawing)
        if number is None:
            self._open(gate, stop)
        elif stop.arriving or stop.leaving or stop.withdrawing or stop.fill:
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
            entering = self._call(gate, min(space, stop.fill or CALLED_AT_ONCE))
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
        for traveller in [*stop.arriving, *self._call(gate, stop.fill or CALLED_AT_ONCE)]:
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
        for one in self._tx.gates.standings(others) if others else ():
            if one.status == Status.QUEUED and one.held_at == gate:
                passed = list(one.numbers[: one.gates.index(gate)])
                found[one.unit] = Traveller(one.unit, one.gates, one.priority, one.created_at, passed)
        return found

    def _withdraw(self, gate: str, wanted: Sequence[Withdrawal]) -> None:
        gates = self._tx.gates
        for one in gates.whole(sorted({one.run_id for one in wanted})):
            if gate not in one.gates or not any(withdrawal.means(one) for withdrawal in wanted):
                continue
            at = one.gates.index(gate)
            if one.held_at == gate:
                gates.unjoin(gate, one.rank or 0, one.unit)
            elif one.status == Status.QUEUED and (no := one.numbers[at]) is not None:
                gates.vacate(gate, no, one.unit)
                if one.held_at is None:
                    self.freed.add(one.unit)

    def _note(self, gate: str) -> None:
        known = self._known.get(gate)
        if known is not None:
            limit = known.limit
            self._tx.gates.know(
                [{"key": gate, "level": limit.level, "limit": limit.id, "flow": limit.flow, "shown": known.value}]
            )

    # -- what it came to

    def write(self) -> list[Delivery]:
        """Write where the moved units stand, their rows being locked; the messages of those that may start."""
        started: list[Unit] = []
        deliveries: list[Delivery] = []
        for unit in sorted(self.moved):
            one = self.moved[unit]
            written = self._tx.gates.place(one.spot())
            if written is not None and unit[1]:
                started.append(unit)
            elif written is not None:
                deliveries.append(written)
        self.moved.clear()
        return deliveries + deliveries_of(self._tx.branches, started)


def held_back(travellers: Iterable[Traveller]) -> set[Unit]:
    """Those who wait."""
    return {one.unit for one in travellers if one.held_at is not None}
