"""What racing processes do about events: waits against arrivals, crons against one another, ids that count once."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from celeryflows.engine.intake import send
from celeryflows.engine.turn import take_turn
from celeryflows.model.events import Event
from celeryflows.model.runs import Status
from celeryflows.scheduler import crons as firing
from celeryflows.scheduler.sweeper import route_left
from celeryflows.store import crons, locks, once
from celeryflows.store.connection import Connection
from celeryflows.store.database import Store
from tests.store.making import FLOW, a_runtime, put_event, put_run
from tests.store.team import Racer

# A name takes 32 shapes; a new one comes every third round.
ROUNDS_A_SHAPE, SHAPES_A_NAME = 3, 30


@dataclass(frozen=True)
class Round:
    """Two runs that wait for the same value at the same path, and the event that two senders send of it."""

    name: str
    path: str
    value: int
    run_ids: tuple[str, str]


def a_round(store: Store, number: int, prefix: str) -> Round:
    """Two queued runs."""
    shape = number // ROUNDS_A_SHAPE
    name, field = f"{prefix}{shape // SHAPES_A_NAME}", f"k{shape % SHAPES_A_NAME}"
    run_ids = [put_run(store, event_id=put_event(store, "shop/x", f'{{"{field}":{number}}}')) for _ in range(2)]
    return Round(name, f"data.{field}", number, (run_ids[0], run_ids[1]))


def wait_and_send(racer: Racer, url: str, rounds: list[Round], sound: bool, in_pieces: bool = False) -> list[str]:
    """Numbers 0 and 1 wait, 2 and 3 send: the runs that each found answered or woke. `in_pieces`: an event answers one
    wait in its own transaction at most, and one in each piece, on which all go."""
    woken: list[str] = []
    # What is broken on purpose shows when senders dawdle between their look and their insert.
    delayed, most = (
        (("flows_waits", "flows_events", "COMMIT"), 0.003) if sound else (("INSERT INTO flows_events",), 0.02)
    )
    with racer.store(url, *delayed, most=most) as store, ExitStack() as stack:
        if not sound:
            stack.enter_context(without_locks(store))
        for one in rounds:
            runtime = a_runtime(store, {FLOW: lambda ctx, one=one: _wait(ctx, one)})
            if in_pieces:
                runtime.settings = replace(runtime.settings, fan_out_at_once=0, fan_out_piece=1)
            racer.meet()
            racer.pause(0.006)
            if racer.number < 2:
                run_id = one.run_ids[racer.number]
                if take_turn(runtime, run_id).status == Status.COMPLETED:
                    woken.append(run_id)
            else:
                send(runtime, [Event(one.name, {one.path.removeprefix("data."): one.value})])
                if in_pieces:
                    route_left(runtime, 0)
                woken += [delivery.run_id for delivery in runtime.dispatcher.waiting]  # type: ignore[attr-defined]
    return woken


def _wait(ctx: Any, one: Round) -> Any:
    return ctx.step.wait_for_event("w", event=one.name, match=one.path, timeout="1h", lookback="1h").id


@contextmanager
def without_locks(store: Store) -> Iterator[None]:
    """No locks of names and stripes; on SQLite, which needs none, no transactions."""
    command = Connection._command

    def no_transaction(self: Connection, sql: str) -> None:
        if sql.split()[0] not in ("BEGIN", "COMMIT", "ROLLBACK"):
            command(self, sql)

    if store.dialect.name == "sqlite":
        with patch.object(Connection, "_command", no_transaction):
            yield
    else:
        with patch.object(locks.Locks, "_take", lambda *_: None):
            yield


def fire_crons(racer: Racer, url: str, sound: bool) -> list[str]:
    """Fire what is due, two occurrences at a time, until nothing is: the runs whose messages were sent."""
    with racer.store(url, "UPDATE flows_crons", "COMMIT", most=0.002) as store, ExitStack() as stack:
        stack.enter_context(patch.object(firing, "ALL_AT_ONCE", 2))
        if not sound:
            stack.enter_context(patch.object(crons.Crons, "advance", _advance_blindly))
        runtime = a_runtime(store)
        racer.meet()
        while firing.fire_due(runtime):
            pass
    return [delivery.run_id for delivery in runtime.dispatcher.waiting]  # type: ignore[attr-defined]


def _advance_blindly(self: Any, row: crons.CronRow, next_at: int) -> bool:
    sql = "UPDATE flows_crons SET next_at = :next WHERE flow = :flow AND trigger_no = :no"
    self._execute(sql, next=next_at, flow=row.flow, no=row.trigger_no)
    return True


def send_same_ids(racer: Racer, url: str, keys: list[str], sound: bool) -> list[str]:
    """All send an event of each id at once: the runs that each started."""
    with racer.store(url, "flows_once", "COMMIT") as store, ExitStack() as stack:
        if not sound:
            stack.enter_context(patch.object(once.Once, "take", _look_then_take))
            stack.enter_context(without_locks(store))
        runtime = a_runtime(store)
        for key in keys:
            racer.meet()
            send(runtime, [Event("shop/once", {"key": key}, id=key)])
    return [delivery.run_id for delivery in runtime.dispatcher.waiting]  # type: ignore[attr-defined]


def _look_then_take(self: Any, key: str, run_id: str, window: int) -> bool:
    if self.holder(key) is not None:
        return False
    sql = "INSERT INTO flows_once (key, run_id, expires_at) VALUES (:key, :run, {now} + :window) ON CONFLICT DO NOTHING"
    self._execute(sql, key=key, run=run_id, window=window)
    return True
