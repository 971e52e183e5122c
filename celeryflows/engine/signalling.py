"""Signals: one wakes the one run that waits for its name. Waits are armed as their run suspends, in its transaction."""

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from celeryflows.codec import dumps
from celeryflows.engine.failures import failure_text
from celeryflows.engine.leaving import send_off
from celeryflows.engine.runtime import Runtime
from celeryflows.engine.units import lock_units, queue_units
from celeryflows.engine.waiting import Pending
from celeryflows.errors import BoundExceeded
from celeryflows.ids import derived_id, new_id
from celeryflows.model.runs import Delivery
from celeryflows.model.signals import SignalSpec, check_signal_name
from celeryflows.model.steps import Failure, State
from celeryflows.store.branches import Unit
from celeryflows.store.connection import Connection
from celeryflows.store.runs import Claim
from celeryflows.store.signals import Waiter

TAKEN = "SignalTaken"


@dataclass(slots=True)
class Armed:
    """What arming came to: whether a step of the run itself is over already, and the runs that lost their place."""

    settled: bool = False
    woken: list[Delivery] = field(default_factory=list)


def lock_rivals(tx: Connection, unit: Unit, specs: Sequence[SignalSpec], others: Set[Unit] = frozenset()) -> None:
    """Under the names' stripes: take the rows of this run or branch, of those that it may replace and of these others,
    in order."""
    waiters = [(spec, tx.signals.waiter(spec.name)) for spec in specs]
    rivals = {waiter.unit for spec, waiter in waiters if waiter is not None and (spec.replaces or waiter.is_due)}
    if (rivals | others) - {unit}:
        lock_units(tx, rivals | others | {unit})


def arm_signals(tx: Connection, claim: Claim, pending: Sequence[Pending], *, again: bool) -> Armed:
    """Open the waits of a locked run, in order. A name that is taken fails its step, or its waiter loses the place."""
    armed = Armed()
    for one in pending:
        if one.signal is None or one.armed or one.row.due is None:
            continue
        wait_id = derived_id("wait", claim.run_id, one.signal.key)
        if again and tx.signals.is_armed(wait_id):
            # By a try whose reply was lost.
            continue
        state = _take_place(tx, claim, one.signal, armed)
        tx.signals.arm(wait_id, claim.run_id, one.signal, one.row.due, state="open" if state is None else "refused")
        if state is not None:
            armed.settled = True
            tx.steps.settle(claim.run_id, one.signal.key, State.FAILED, failure_text(state))
    return armed


def _take_place(tx: Connection, claim: Claim, spec: SignalSpec, armed: Armed) -> Failure | None:
    waiter = tx.signals.waiter(spec.name)
    if waiter is None:
        return None
    if not spec.replaces and not waiter.is_due:
        return _taken(spec, waiter)
    if tx.signals.end(waiter.id, "expired" if waiter.is_due else "replaced"):
        if waiter.unit == (claim.run_id, claim.path):
            armed.settled = True
        else:
            armed.woken += queue_units(tx, [waiter.unit])
    return None


def _taken(spec: SignalSpec, waiter: Waiter) -> Failure:
    return Failure(
        TAKEN,
        f"run {waiter.run_id} waits for the signal {spec.name!r} already, and one run may: give each run a name of its "
        "own, or take the place with on_conflict='replace'",
    )


def signal(runtime: Runtime, name: str, data: Any = None) -> str | None:
    """Wake the run that waits for the signal; its id, None when nobody waits.

    Raises InvalidEvent for a name that cannot be, NotStorable or BoundExceeded for the data, StoreUnavailable.
    """
    check_signal_name(name)
    text = _signal_text(runtime, name, data)
    while True:
        with runtime.store.connection() as connection:
            waiter = connection.repeat(lambda: connection.signals.waiter(name))
            if waiter is None:
                return None
            # Lost to another signal, a timeout or one who took its place: that one may wait by now.
            if _wake(runtime, connection, waiter, text):
                return waiter.run_id


def _signal_text(runtime: Runtime, name: str, data: Any) -> str:
    text = dumps({"name": name, "data": data}, what="signal")
    most = runtime.settings.max_event_bytes
    if len(text) * 4 > most and (size := len(text.encode())) > most:
        raise BoundExceeded(
            "signal bytes", most, size, "Send a key of the data instead, or raise flows_max_event_bytes."
        )
    return text


def _wake(runtime: Runtime, connection: Connection, waiter: Waiter, text: str) -> bool:
    token, tries = new_id(), 0
    woken: list[Delivery] = []

    def work(tx: Connection) -> bool:
        nonlocal tries
        tries += 1
        lock_units(tx, [waiter.unit])
        key = tx.signals.answer(waiter.id, token)
        if key is None:
            return tries > 1 and tx.signals.is_answered_by(waiter.id, token)
        tx.steps.settle(waiter.run_id, key, State.DONE, text)
        woken[:] = queue_units(tx, [waiter.unit])
        return True

    taken = connection.transact(work)
    if taken and woken:
        send_off(runtime, woken)
    return taken
