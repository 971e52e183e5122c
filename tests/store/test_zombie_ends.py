"""A turn whose run was taken from it while its handler ran ends as lost: it writes, sends and tells nothing."""

from collections.abc import Callable
from typing import Any

import pytest

from celeryflows.engine.resume import requeue
from celeryflows.engine.runtime import Runtime
from celeryflows.engine.turn import NOT_CLAIMED, take_turn
from celeryflows.errors import NonRetriableError
from celeryflows.model.events import Event
from celeryflows.model.runs import Status
from celeryflows.store.database import Store
from celeryflows.store.runs import Held
from tests.store.making import FLOW, a_runtime, outcome, put_run, rows_of

TABLES = ("flows_runs", "flows_steps", "flows_waits", "flows_events", "flows_shapes")


def _raise(error: Exception) -> None:
    raise error


ENDS: dict[str, Callable[[Any], Any]] = {
    "returns": lambda ctx: 1,
    "records a step": lambda ctx: ctx.step.run("a", lambda: 1),
    "sleeps": lambda ctx: ctx.step.sleep("a", "1h"),
    "waits": lambda ctx: ctx.step.wait_for_event("a", event="shop/paid", timeout="1h"),
    "sends": lambda ctx: ctx.step.send_event("a", Event("shop/shipped")),
    "raises": lambda ctx: _raise(ValueError("no")),
    "fails for good": lambda ctx: _raise(NonRetriableError("no")),
    "retries a step": lambda ctx: ctx.step.run("a", _raise, ValueError("no")),
}


def lose(runtime: Runtime, run_id: str) -> None:
    """As recovery does when the worker is silent."""
    found = outcome(runtime.store, run_id)
    assert found.token is not None
    assert requeue(runtime, Held(run_id, found.turn, runtime.worker, found.token))


def lose_for_good(runtime: Runtime, run_id: str) -> None:
    """The last of too many losses."""
    with runtime.store.connection() as connection:
        connection.execute("UPDATE flows_runs SET lost = :lost, lost_at = 0", lost=runtime.settings.max_lost)
    lose(runtime, run_id)
    assert outcome(runtime.store, run_id).status == Status.FAILED


def lose_to_another(runtime: Runtime, run_id: str) -> None:
    """Another worker is at it already."""
    lose(runtime, run_id)
    with runtime.store.connection() as connection:
        assert connection.runs.claim(run_id, "w9", 9)


LOSSES = {"requeued": lose, "failed": lose_for_good, "taken over": lose_to_another}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("end", ENDS)
def test_a_turn_that_lost_its_run_ends_without_a_trace(store: Store, end: str, loss: str) -> None:
    left: list[object] = []

    def handler(ctx: Any) -> Any:
        LOSSES[loss](runtime, ctx.run_id)
        left.append(contents(store))
        runtime.dispatcher.waiting.clear()
        return ENDS[end](ctx)

    runtime = a_runtime(store, {FLOW: handler})
    everybody_listens(store)
    assert take_turn(runtime, put_run(store)) is NOT_CLAIMED
    assert contents(store) == left[0]
    assert not runtime.dispatcher.waiting


@pytest.mark.parametrize("end", ENDS)
def test_a_turn_whose_run_was_cancelled_ends_as_cancelled(store: Store, end: str) -> None:
    def handler(ctx: Any) -> Any:
        with store.connection() as connection:
            connection.runs.cancel([ctx.run_id], "no")
        return ENDS[end](ctx)

    runtime = a_runtime(store, {FLOW: handler})
    run_id = put_run(store)
    assert take_turn(runtime, run_id).status == Status.CANCELLED
    assert outcome(store, run_id).status == Status.CANCELLED
    assert rows_of(store, "SELECT name FROM flows_events WHERE name <> 'shop/ordered'") == []
    assert not runtime.dispatcher.waiting


def contents(store: Store) -> list[list[tuple[Any, ...]]]:
    return [sorted(map(repr, rows_of(store, f"SELECT * FROM {table}"))) for table in TABLES]


def everybody_listens(store: Store) -> None:
    """Somebody waits for the ends of runs, so that each would be told."""
    with store.begin() as tx:
        for name in ("flows/run.completed", "flows/run.failed", "flows/run.cancelled"):
            tx.waits.add_shape(name, "")
        tx.flows.touch()
