"""What racing processes do about cancels: late events that start runs, what cancels them, answers, and turns."""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from celeryflows.engine.intake import send
from celeryflows.engine.registrar import register_worker
from celeryflows.engine.routing import route_stored
from celeryflows.engine.runtime import Flow, Runtime
from celeryflows.engine.turn import take_turn
from celeryflows.ids import new_id
from celeryflows.model.cancels import CancelOn
from celeryflows.model.events import Event
from celeryflows.model.flows import FlowDefinition
from celeryflows.model.retries import RetryPolicy
from celeryflows.model.triggers import OnEvent
from celeryflows.store.database import Store
from tests.store.making import a_runtime, an_event
from tests.store.races_of_events import without_locks
from tests.store.team import Racer


@dataclass(frozen=True)
class Round:
    """An event that is stored and not routed, and the number that what cancels its run bears."""

    event_id: str
    number: int


def ordering(store: Store) -> Runtime:
    """An engine with a flow that waits for its payment and is cancelled by event."""

    def order(ctx: Any) -> Any:
        return ctx.step.wait_for_event("paid", event="race/paid", match="data.n", timeout="1h").id

    definition = FlowDefinition(
        "order", triggers=(OnEvent("race/placed"),), cancel_on=(CancelOn("race/cancelled", match="data.n"),)
    )
    runtime = a_runtime(store)
    runtime.flows = {"order": Flow(definition, order, RetryPolicy())}
    return runtime


def late_rounds(store: Store, count: int) -> list[Round]:
    """Events that an outbox left, one after the other."""
    register_worker(ordering(store))
    rounds = [Round(new_id(), number) for number in range(count)]
    for one in rounds:
        with store.connection() as connection:
            connection.events.add_unrouted([an_event("race/placed", f'{{"n":{one.number}}}', id=one.event_id)])
    return rounds


def route_and_cancel(racer: Racer, url: str, rounds: list[Round], sound: bool) -> list[str]:
    """Numbers 0 and 1 route the late event, 2 and 3 send what cancels its run: the runs whose end each told."""
    delayed = ("flows_waits", "flows_events", "flows_runs", "COMMIT")
    with racer.store(url, *delayed, most=0.003 if sound else 0.02) as store, ExitStack() as stack:
        if not sound:
            stack.enter_context(without_locks(store))
        runtime = ordering(store)
        told = _told(runtime)
        for one in rounds:
            racer.meet()
            racer.pause(0.006)
            if racer.number < 2:
                route_stored(runtime, one.event_id)
            else:
                send(runtime, [Event("race/cancelled", {"n": one.number})])
    return told


def answer_and_cancel(racer: Racer, url: str, runs: list[str], sound: bool) -> list[str]:
    """Number 0 answers the waits of runs and takes their turns, 1 cancels them by event: whose end each told."""
    with racer.store(url, "flows_waits", "flows_runs", "COMMIT") as store:
        runtime = ordering(store)
        told = _told(runtime)
        for number, run_id in enumerate(runs):
            racer.meet()
            racer.pause(0.008)
            if racer.number == 0:
                send(runtime, [Event("race/paid", {"n": number})])
                take_turn(runtime, run_id)
            elif racer.number == 1:
                send(runtime, [Event("race/cancelled", {"n": number})])
    return told


def _told(runtime: Runtime) -> list[str]:
    told: list[str] = []
    runtime.dispatcher.run_cancelled = lambda run_id, *_: told.append(run_id)  # type: ignore[method-assign]
    return told
