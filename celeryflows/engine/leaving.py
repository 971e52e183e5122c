"""After the commit: units that came back pass their gates, and what ended units hold goes to the next in line.

Each in a transaction of its own, by the process that caused it, else by recovery."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TypeVar

from celeryflows.engine.aftermath import left_to_recovery
from celeryflows.engine.catalog import Snapshot
from celeryflows.engine.holding import note_held, tell_held
from celeryflows.engine.passage import Passage
from celeryflows.engine.runtime import Runtime
from celeryflows.engine.throttling import ask, asker, hold_meters
from celeryflows.model.runs import ENDED, Delivery, Status
from celeryflows.signals import LimitNews
from celeryflows.store.branches import Unit
from celeryflows.store.connection import Connection
from celeryflows.store.runs import Claim, Held
from celeryflows.store.standings import DOOR, Standing

AT_ONCE = 20


T = TypeVar("T")


class NotMine(Exception):
    """The fence refused: what was done at the gates is taken back."""


class _WrittenBefore(NotMine):
    """Our own commit wrote it; its reply was lost. `found`: what it came to."""

    def __init__(self, found: object) -> None:
        super().__init__(found)
        self.found = found


class _StaysIn(NotMine):
    """What the turn was to wait for has come: it keeps its slots."""


class _GoesOut(NotMine):
    """It has not come after all."""


def go_out(
    runtime: Runtime, connection: Connection, claim: Claim, work: Callable[[Connection, Passage | None], T]
) -> T:
    """The transaction in which a turn ends; its unit's slots go to the next in line, whose messages follow the commit.

    `work` passes the gates before it takes a row; it gets None for a unit without limits, whose turn costs no more.
    """
    if not claim.gates:
        return connection.transact(lambda tx: work(tx, None))
    handed: list[Delivery] = []
    leaves = True

    def whole(tx: Connection) -> T:
        passage = _way_out(runtime, tx, claim) if leaves else None
        result = work(tx, passage)
        handed[:] = passage.deliveries if passage is not None else ()
        return result

    while True:
        try:
            result = connection.transact(whole)
        except _WrittenBefore as before:
            # A try whose reply was lost has put the messages there; one too many claims nothing.
            result = before.found  # type: ignore[assignment]
        except (_StaysIn, _GoesOut) as found:
            leaves = isinstance(found, _GoesOut)
            continue
        if handed:
            runtime.dispatcher.send_runs(handed)
        return result


def pass_out(passage: Passage | None, *own: Unit) -> None:
    """Pass the gates, take the rows of those that they let in with the caller's own, and write the first."""
    if passage is not None:
        passage.go()
        passage.lock(*own)
        passage.write()


def written_before(passage: Passage | None, found: T) -> T:
    """The fence took no row, for our own commit wrote it: what was done at the gates this time is taken back."""
    if passage is not None:
        raise _WrittenBefore(found)
    return found


def stays_in(passage: Passage | None) -> None:
    """What the turn was to wait for has come: all again, and its slots stay its own."""
    if passage is not None:
        raise _StaysIn


def goes_out(claim: Claim, passage: Passage | None) -> None:
    """It waits after all."""
    if claim.gates and passage is None:
        raise _GoesOut


def _way_out(runtime: Runtime, tx: Connection, claim: Claim) -> Passage:
    passage = Passage(tx, runtime.catalog.read(tx).gates)
    passage.leave(claim.unit, claim.gates, claim.numbers)
    return passage


def send_off(runtime: Runtime, deliveries: Sequence[Delivery]) -> None:
    """Send the messages; those of units that are at the door once they have passed their gates."""
    ready = [one for one in deliveries if not one.at_door]
    if ready:
        runtime.dispatcher.send_runs(ready)
    if len(ready) < len(deliveries):
        come_in(runtime, [(one.run_id, one.branch) for one in deliveries if one.at_door])


def come_in(runtime: Runtime, units: Sequence[Unit]) -> None:
    """Let units that are at the door pass their gates, and send the messages of those that may start."""
    with left_to_recovery():
        for start in range(0, len(units), AT_ONCE):
            deliveries = _enter(runtime, units[start : start + AT_ONCE])
            if deliveries:
                runtime.dispatcher.send_runs(deliveries)


def _enter(runtime: Runtime, units: Sequence[Unit]) -> list[Delivery]:
    tried: list[Delivery] = []
    held: list[LimitNews] = []

    def work(tx: Connection) -> list[Delivery]:
        waiting = [one for one in tx.standings.of(units) if one.held_at == DOOR and one.status == Status.QUEUED]
        if not waiting:
            # Another came first, or a try whose reply was lost; a message too many claims nothing.
            return tried
        catalog = runtime.catalog.read(tx)
        passage = Passage(tx, catalog.gates)
        delayed = _delayed(tx, catalog, waiting)
        for one in waiting:
            if one.unit in delayed:
                passage.wait(one, *delayed[one.unit])
            else:
                passage.resume(one)
        passage.go()
        passage.lock()
        held[:] = note_held(tx, passage, {one.unit: one.flow for one in waiting})
        tried[:] = passage.write()
        return tried

    deliveries = runtime.store.transact(work)
    tell_held(held)
    return deliveries


def _delayed(tx: Connection, catalog: Snapshot, units: Sequence[Standing]) -> dict[Unit, tuple[str, int]]:
    """A throttle delays starts alone, not what comes back."""
    fresh = [one for one in units if not one.turn and not one.path and catalog.has_throttle(one.flow)]
    if not fresh:
        return {}
    by_run = {row[0]: row[2] for row in tx.runs.before_first_turn([one.run_id for one in fresh])}
    events = tx.events.many(by_run.values())
    askers = [
        asker(
            catalog,
            one.unit,
            one.flow,
            catalog.scope(one.flow, event),
            priority=one.priority,
            created_at=one.created_at,
        )
        for one in fresh
        if (event := events.get(by_run.get(one.run_id, ""))) is not None
    ]
    found = [one for one in askers if one is not None]
    hold_meters(tx, found)
    return ask(tx, found)


def leave(runtime: Runtime, claim: Claim | Held) -> None:
    """A turn that was cancelled while it ran, or its worker with it, is gone: its slots go to the next in line."""
    unit = (claim.run_id, claim.path) if isinstance(claim, Claim) else (claim.id, claim.path)
    with left_to_recovery(), runtime.store.connection() as connection:
        found = connection.repeat(lambda: connection.standings.of([unit]))
        for one in found:
            if one.status not in ENDED:
                continue
            _free(runtime, connection, one, (claim.turn, claim.token))


def settle(runtime: Runtime, run_ids: Iterable[str]) -> None:
    """Free what units of these runs hold that have ended without a turn that leaves."""
    with left_to_recovery(), runtime.store.connection() as connection:
        ids = sorted(set(run_ids))
        for one in connection.repeat(lambda: connection.standings.left_behind(ids)):
            _free(runtime, connection, one, None)


def _free(runtime: Runtime, connection: Connection, one: Standing, fence: tuple[int, int | None] | None) -> None:
    deliveries: list[Delivery] = []
    line, rank = one.held_at, one.rank
    if line is not None and rank is not None:
        # A commit of its own: who holds a gate alone may wait for this row, and must not be waited for with it.
        connection.repeat(lambda: connection.gates.unjoin(line, rank, one.unit))

    def work(tx: Connection) -> None:
        passage = Passage(tx, runtime.catalog.read(tx).gates)
        passage.leave(one.unit, one.gates, one.numbers)
        passage.go()
        passage.lock(one.unit)
        if not tx.standings.clear(one.unit, fence):
            raise NotMine
        deliveries[:] = passage.write()

    # A try whose reply was lost has put the messages there.
    with suppress(NotMine):
        connection.transact(work)
    if deliveries:
        runtime.dispatcher.send_runs(deliveries)


def fill(runtime: Runtime, gate: str) -> int:
    """Let in who waits at a gate as far as there is room, a few at once; how many."""
    moved = 0
    deliveries: list[Delivery] = []

    def work(tx: Connection) -> None:
        nonlocal moved
        passage = Passage(tx, runtime.catalog.read(tx).gates)
        passage.fill(gate, AT_ONCE)
        passage.go()
        passage.lock()
        moved = len(passage.moved)
        if not moved:
            tx.gate_audit.filled(gate)
        deliveries[:] = passage.write()

    runtime.store.transact(work)
    if deliveries:
        runtime.dispatcher.send_runs(deliveries)
    return moved


def free_stray(runtime: Runtime, gate: str, no: int, unit: Unit) -> bool:
    """Free a slot whose unit does not know of it; False when that was settled meanwhile."""
    deliveries: list[Delivery] = []

    def work(tx: Connection) -> bool:
        passage = Passage(tx, runtime.catalog.read(tx).gates)
        tx.gates.hold([gate])
        if not tx.gate_audit.is_stray(gate, no, unit):
            return False
        tx.gates.vacate(gate, no, unit)
        passage.fill(gate, AT_ONCE)
        passage.go()
        passage.lock(unit)
        deliveries[:] = passage.write()
        # Who was called, and never heard of it.
        tx.standings.lost_its_place(unit, gate)
        return True

    freed = runtime.store.transact(work)
    if deliveries:
        runtime.dispatcher.send_runs(deliveries)
    return freed


def rejoin(runtime: Runtime, unit: Unit) -> None:
    """A unit that nobody takes gives its slots up, and stands behind all who wait."""
    deliveries: list[Delivery] = []

    def work(tx: Connection) -> None:
        found = [one for one in tx.standings.of([unit]) if one.gates and one.status == Status.QUEUED]
        if not found or found[0].held_at is not None:
            return
        passage = Passage(tx, runtime.catalog.read(tx).gates)
        passage.rejoin(found[0])
        passage.go()
        passage.lock()
        deliveries[:] = passage.write()

    runtime.store.transact(work)
    if deliveries:
        runtime.dispatcher.send_runs(deliveries)
