"""Clients that race on one another's objects and keep what they saw, and the models that this must fit.

Objects: a sender's id, a signal's name with the runs that wait for it, and the ends of a run."""

from collections.abc import Hashable
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

from celeryflows.engine.finish import cancel
from celeryflows.engine.intake import send
from celeryflows.engine.signalling import signal
from celeryflows.engine.turn import take_turn
from celeryflows.model.events import Event
from celeryflows.store.database import Store
from celeryflows.store.locks import Locks
from celeryflows.store.once import Once
from celeryflows.store.singletons import Singletons
from tests.store.linear import Call, Recorder
from tests.store.making import FLOW, a_runtime, put_event, put_run
from tests.store.races_of_events import without_locks
from tests.store.races_of_limits import limited, look_at_holder
from tests.store.team import Racer

EVENT = "linear/placed"


def once(state: Any, call: Call) -> tuple[Hashable, Any]:
    """An id that a sender gave starts one run; who asks sees it from then on."""
    if call.verb == "send":
        return True, not state
    return state, state


def mailbox(state: Any, call: Call) -> tuple[Hashable, Any]:
    """A name has one waiter at most; a signal takes it, and so does its cancel. State: who waits, who is cancelled."""
    waiter, cancelled = state
    match call.verb:
        case "wait":
            return (state, False) if waiter else ((call.word, cancelled), True)
        case "signal":
            return (None, cancelled), waiter
        case _:
            gone = (None if waiter == call.word else waiter, cancelled | {call.word})
            return gone, call.word not in cancelled


def seat(state: Any, call: Call) -> tuple[Hashable, Any]:
    """A key has one run at a time: a start takes the seat unless somebody sits there, an end leaves it."""
    return (True, not state) if call.verb == "send" else (False, state)


def send_ids(racer: Racer, url: str, names: list[str], sound: bool) -> list[Call]:
    """Each id is sent by all and looked for by all."""
    told = Recorder()
    with racer.store(url, "flows_once", "COMMIT") as store, ExitStack() as stack:
        if not sound:
            stack.enter_context(patch.object(Once, "take", _ids_not_taken))
        runtime = a_runtime(store, {})
        for name in names:
            racer.meet()
            racer.pause(0.004)
            for _ in range(2):
                with told.calling(name, "send") as gave:
                    before = len(runtime.dispatcher.waiting)  # type: ignore[attr-defined]
                    send(runtime, [Event(EVENT, {}, id=name)])
                    gave(len(runtime.dispatcher.waiting) > before)  # type: ignore[attr-defined]
                with told.calling(name, "look") as gave:
                    gave(_is_started(store, name))
    return told.calls


def _is_started(store: Store, name: str) -> bool:
    with store.connection() as connection:
        sql = "SELECT 1 FROM flows_runs r JOIN flows_events e ON e.id = r.event_id WHERE e.ext_id = :id"
        return bool(connection.execute(f"{sql} AND r.status <> 'skipped'", id=name))


def wait_and_signal(racer: Racer, url: str, names: list[str], sound: bool) -> list[Call]:
    """Even ones wait by a run of their own and cancel it, odd ones signal."""
    told = Recorder()
    with racer.store(url, "flows_waits", "COMMIT") as store, ExitStack() as stack:
        if not sound:
            stack.enter_context(patch.object(Locks, "_take", _no_lock))
        for name in names:
            runtime = a_runtime(store, {FLOW: lambda ctx, name=name: _wait(ctx, name)})
            runs = [put_run(store, event_id=put_event(store)) for _ in range(2)]
            racer.meet()
            racer.pause(0.006)
            for run in runs:
                if racer.number % 2:
                    with told.calling(name, "signal") as gave:
                        gave(signal(runtime, name, None))
                    continue
                with told.calling(name, "wait", run) as gave:
                    armed = take_turn(runtime, run).status == "suspended"
                    gave(armed)
                if armed:
                    racer.pause(0.004)
                    with told.calling(name, "cancel", run) as gave:
                        gave(cancel(runtime, run, "enough"))
    return told.calls


def sit_and_leave(racer: Racer, url: str, names: list[str], sound: bool) -> list[Call]:
    """All start runs of each key, and end those that they started."""
    told = Recorder()
    with racer.store(url, "flows_singletons", "COMMIT") as store, ExitStack() as stack:
        if not sound:
            stack.enter_context(without_locks(store))
            stack.enter_context(patch.object(Singletons, "take", look_at_holder))
        runtime = limited(store)
        messages = runtime.dispatcher.waiting  # type: ignore[attr-defined]
        for name in names:
            racer.meet()
            for _ in range(3):
                racer.pause(0.004)
                with told.calling(name, "send") as gave:
                    send(runtime, [Event("shop/alone", {"key": name})])
                    gave(bool(messages))
                if messages:
                    # Who sits down beside somebody is done before that one leaves.
                    racer.pause(0.02)
                    with told.calling(name, "end") as gave:
                        gave(take_turn(runtime, messages.popleft().run_id).status == "completed")
    return told.calls


def _wait(ctx: Any, name: str) -> None:
    ctx.step.wait_for_signal("s", name, timeout="1h")


def _no_lock(*_: object) -> None:
    """Nobody waits for anybody."""


def _ids_not_taken(*_: object, **__: object) -> bool:
    return True
