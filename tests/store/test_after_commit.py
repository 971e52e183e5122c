"""What is committed is done: an outage right after the commit is no error of the caller, recovery does the rest."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from celeryflows.engine.finish import cancel
from celeryflows.engine.intake import send
from celeryflows.engine.registrar import register_sender
from celeryflows.engine.resume import requeue
from celeryflows.engine.runtime import Flow, Runtime
from celeryflows.engine.settings import Settings
from celeryflows.engine.turn import take_turn
from celeryflows.errors import NonRetriableError, StoreUnavailable
from celeryflows.model.events import Event
from celeryflows.model.flows import FlowDefinition
from celeryflows.model.retries import RetryPolicy
from celeryflows.model.runs import Status
from celeryflows.model.triggers import OnEvent
from celeryflows.scheduler.sweeper import route_left
from celeryflows.store.database import Store
from tests.store.making import FLOW, a_runtime, a_wait, held, outcome, put_run, rows_of, running

ENDS = ("flows/run.completed", "flows/run.failed", "flows/run.cancelled")


@pytest.fixture
def runtime(store: Store) -> Iterator[Runtime]:
    """An engine whose store is gone for good once one more transaction is committed, if it is told so."""
    store.patience = 0.0
    made = a_runtime(store, {FLOW: lambda ctx: 1})
    listener = FlowDefinition("listener", triggers=tuple(OnEvent(name) for name in ENDS))
    made.flows = {**made.flows, "listener": Flow(listener, lambda ctx: None, RetryPolicy())}
    register_sender(made)
    made.settings = replace(Settings(), fan_out_at_once=1, fan_out_piece=2)
    yield made
    store.observer = None


def leave_after_commit(store: Store) -> None:
    committed: list[str] = []

    def watch(sql: str) -> None:
        if committed:
            raise StoreUnavailable("gone")
        if sql == "COMMIT":
            committed.append(sql)

    store.observer = watch


def told(store: Store, name: str) -> bool:
    """Recovery routes the run's end, and its listener starts."""
    store.observer = None
    [(arrived,)] = rows_of(store, "SELECT arrived_at FROM flows_events WHERE name = :name", name=name)
    assert arrived is None
    assert route_left(a_runtime(store), 0) == 1
    return rows_of(store, "SELECT status FROM flows_runs WHERE flow = 'listener'") == [("queued",)]


@pytest.mark.parametrize(
    ("handler", "status", "event"),
    [
        (lambda ctx: 1, Status.COMPLETED, "flows/run.completed"),
        (lambda ctx: _fail(), Status.FAILED, "flows/run.failed"),
    ],
)
def test_a_run_that_ended_has_ended(store: Store, runtime: Runtime, handler: Any, status: Status, event: str) -> None:
    runtime.flows = {FLOW: replace(runtime.flows[FLOW], handler=handler)}
    run_id = put_run(store)
    leave_after_commit(store)
    assert take_turn(runtime, run_id).status == status
    assert told(store, event)
    assert outcome(store, run_id).status == status


def test_a_run_that_was_cancelled_is_cancelled(store: Store, runtime: Runtime) -> None:
    run_id = put_run(store)
    leave_after_commit(store)
    assert cancel(runtime, run_id, "no")
    assert told(store, "flows/run.cancelled")


def test_a_run_that_was_lost_too_often_has_failed(store: Store, runtime: Runtime) -> None:
    claim = running(store)
    runtime.settings = replace(runtime.settings, max_lost=1)
    leave_after_commit(store)
    assert requeue(runtime, held(claim))
    assert told(store, "flows/run.failed")


def test_an_event_that_was_accepted_goes_on_to_all_who_wait_for_it(store: Store, runtime: Runtime) -> None:
    for _ in range(5):
        claim = running(store)
        with store.begin() as tx:
            tx.waits.add_shape("shop/all", "")
            tx.waits.arm(a_wait(claim, name="shop/all", path="", value=""))
            tx.runs.suspend(claim, None, 0)
    leave_after_commit(store)
    assert len(send(runtime, [Event("shop/all")])) == 1
    store.observer = None
    assert rows_of(store, "SELECT DISTINCT state FROM flows_waits") == [("open",)]
    assert route_left(runtime, 0) == 1
    assert rows_of(store, "SELECT DISTINCT state FROM flows_waits") == [("answered",)]
    assert len(rows_of(store, "SELECT 1 FROM flows_runs WHERE status = 'queued'")) == 5


def _fail() -> None:
    raise NonRetriableError("no")
