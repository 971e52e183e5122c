"""What racing processes do at limits: they ask one meter, and send what is debounced, gathered, or to run alone."""

import time
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

from celeryflows.engine.closing import close_due
from celeryflows.engine.intake import send
from celeryflows.engine.runtime import Flow, Runtime
from celeryflows.model.events import Event
from celeryflows.model.flows import FlowDefinition
from celeryflows.model.limits import Batch, Debounce, Limits, Singleton
from celeryflows.model.retries import RetryPolicy
from celeryflows.model.triggers import OnEvent
from celeryflows.store import batches, debounces, meters, once, singletons
from celeryflows.store.database import Store
from tests.store.making import a_runtime
from tests.store.races_of_events import _look_then_take, without_locks
from tests.store.team import Racer

METER = meters.Meter("m", "shop.f", "rate_limit", None)
KINDS = {
    "debounced": Limits(debounce=Debounce("1s", key="event.data.key")),
    "gathered": Limits(batch=Batch(5, "1h", key="event.data.key")),
    "both": Limits(debounce=Debounce("1s", key="event.data.key"), batch=Batch(5, "1h")),
    "alone": Limits(singleton=Singleton("skip", key="event.data.key")),
    "idempotent": Limits(idempotency="event.data.key"),
}


def limited(store: Store) -> Runtime:
    """An engine whose flows each have one limit and an event of their name."""
    runtime = a_runtime(store)
    runtime.flows = {
        name: Flow(FlowDefinition(name, triggers=(OnEvent(f"shop/{name}"),), limits=limits), _nothing, RetryPolicy())
        for name, limits in KINDS.items()
    }
    return runtime


def _nothing(_: Any) -> None:
    """Its turns are nobody's business here."""


def ask_meter(racer: Racer, url: str, asks: int, limit: int, interval: int, sound: bool) -> tuple[int, float, float]:
    """Ask for a start again and again: how many passed, and when it began and ended by the machine's clock."""
    with racer.store(url, "flows_meters", most=0.002) as store, store.connection() as connection, ExitStack() as stack:
        if not sound:
            stack.enter_context(patch.object(meters.Meters, "take", _look_then_move))
        racer.meet()
        began = time.time()
        passed = sum(connection.meters.take(METER, interval, interval * (limit - 1)) for _ in range(asks))
        return passed, began, time.time()


def _look_then_move(self: Any, meter: meters.Meter, interval: int, tolerance: int) -> bool:
    now = self._execute("SELECT {now}")[0][0]
    tat = self.tat(meter.key)
    if tat is not None and tat - tolerance > now:
        return False
    self._execute(
        "INSERT INTO flows_meters (key, flow, kind, tat) VALUES (:key, 'f', 'k', :tat) "
        "ON CONFLICT (key) DO UPDATE SET tat = excluded.tat",
        key=meter.key,
        tat=max(tat or now, now) + interval,
    )
    return True


def send_many(racer: Racer, url: str, flow: str, keys: list[str], sound: bool) -> list[str]:
    """All send an event of each key at once; the ids of their events."""
    sent: list[str] = []
    with racer.store(url, "flows_batches", "flows_singletons", "COMMIT") as store, ExitStack() as stack:
        if not sound:
            _break(stack, store, flow)
        runtime = limited(store)
        for key in keys:
            racer.meet()
            sent += send(runtime, [Event(f"shop/{flow}", {"key": key, "by": racer.number})])
    return sent


def _break(stack: ExitStack, store: Store, flow: str) -> None:
    stack.enter_context(without_locks(store))
    if flow == "gathered":
        stack.enter_context(patch.object(batches.Batches, "take", _look_at_batch))
        stack.enter_context(patch.object(batches.Batches, "grow", _grow_blindly))
    elif flow == "alone":
        stack.enter_context(patch.object(singletons.Singletons, "take", look_at_holder))
    else:
        stack.enter_context(patch.object(once.Once, "take", _look_then_take))


def _look_at_batch(self: Any, key: str, run_id: str, timeout: int) -> batches.BatchRow:
    found = self._execute("SELECT run_id, n, bytes FROM flows_batches WHERE key = :key", key=key)
    self._looked = batches.BatchRow(*found[0]) if found else batches.BatchRow(run_id, 0, 0)
    self._execute(
        "INSERT INTO flows_batches (key, run_id, n, bytes, deadline) VALUES (:key, :run, 0, 0, {now} + :timeout) "
        "ON CONFLICT (key) DO NOTHING",
        key=key,
        run=run_id,
        timeout=timeout,
    )
    return self._looked  # type: ignore[no-any-return]


def _grow_blindly(self: Any, key: str, size: int) -> None:
    self._execute("UPDATE flows_batches SET n = :n WHERE key = :key", key=key, n=self._looked.n + 1)


def look_at_holder(self: Any, key: str, run_id: str) -> str:
    found = self._execute("SELECT run_id FROM flows_singletons WHERE key = :key", key=key)
    if found:
        return str(found[0][0])
    self._execute(
        "INSERT INTO flows_singletons (key, run_id) VALUES (:key, :run) ON CONFLICT (key) DO NOTHING",
        key=key,
        run=run_id,
    )
    return run_id


def bounce_and_fire(racer: Racer, url: str, events: int, sound: bool) -> int:
    """All but number 0 send events of one key; number 0 makes each window due as soon as it sees it, and closes it."""
    with racer.store(url, "flows_debounces", "COMMIT", most=0.004) as store, ExitStack() as stack:
        if not sound:
            stack.enter_context(without_locks(store))
            stack.enter_context(patch.object(debounces.Debounces, "fire", _fire_blindly))
            stack.enter_context(patch.object(debounces.Debounces, "take", _look_at_window))
        runtime = limited(store)
        racer.meet()
        if racer.number:
            for n in range(events):
                send(runtime, [Event("shop/debounced", {"key": "k", "n": n, "by": racer.number})])
                racer.pause(0.01)
            return events
        return _fire_until_quiet(runtime)


def bounce_into_batches(racer: Racer, url: str, events: int, sound: bool) -> int:
    """All but numbers 0 and 1 send events of seven keys; those two make each window due as soon as they see it, and
    close it side by side: its newest event goes into the one batch."""
    with racer.store(url, "flows_debounces", "flows_batches", "COMMIT", most=0.004) as store, ExitStack() as stack:
        if not sound:
            _break(stack, store, "gathered")
        runtime = limited(store)
        racer.meet()
        if racer.number > 1:
            for n in range(events):
                send(runtime, [Event("shop/both", {"key": f"k{n % 7}", "by": racer.number})])
                racer.pause(0.01)
            return events
        return _fire_until_quiet(runtime)


def _fire_until_quiet(runtime: Runtime) -> int:
    fired, quiet_since = 0, time.monotonic()
    while time.monotonic() - quiet_since < 1.0:
        with runtime.store.connection() as connection:
            connection.execute("UPDATE flows_debounces SET fire_at = 0")
        before = fired
        fired += close_due(runtime)
        if fired > before:
            quiet_since = time.monotonic()
        time.sleep(0.003)
    return fired


def _look_at_window(self: Any, key: str, run_id: str, ts: int, *, period: int, timeout: int | None) -> Any:
    sql = "SELECT run_id, ts, fire_at, deadline, {now} FROM flows_debounces WHERE key = :key"
    found = self._execute(sql, key=key)
    if found:
        return debounces.DebounceRow(*found[0])
    self._execute(
        "INSERT INTO flows_debounces (key, run_id, ts, fire_at) VALUES (:key, :run, :ts, {now} + :period) "
        "ON CONFLICT (key) DO NOTHING",
        key=key,
        run=run_id,
        ts=ts,
        period=period,
    )
    return debounces.DebounceRow(run_id, ts, period, None, 0)


def _fire_blindly(self: Any, key: str, run_id: str) -> bool:
    self._execute("DELETE FROM flows_debounces WHERE key = :key", key=key)
    return True
