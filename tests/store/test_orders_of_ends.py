"""A cancel, a record and an end of one turn, in each order: the first of those that exclude each other wins, alone."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import permutations
from typing import Any

import pytest

from celeryflows.model.runs import Status
from celeryflows.store.connection import Connection
from celeryflows.store.database import Store
from celeryflows.store.runs import Claim
from tests.store.making import a_step, outcome, rows_of, running, until_somebody_waits

VERBS: dict[str, Callable[[Connection, Claim], Any]] = {
    "cancel": lambda tx, claim: tx.runs.cancel([claim.run_id], "enough"),
    "record": lambda tx, claim: tx.steps.record(a_step(claim)),
    "complete": lambda tx, claim: tx.runs.finish(claim, Status.COMPLETED, "1", None),
    "hand back": lambda tx, claim: tx.runs.hand_back(claim),
}
# Where a run is after each, when it was running; a handed back one is queued, and may be cancelled there.
AFTER = {"cancel": "cancelled", "record": "running", "complete": "completed", "hand back": "queued"}
ORDERS = list(permutations(VERBS, 3))


@pytest.fixture
def postgres(migrated_postgres: str) -> Iterator[Store]:
    made = Store(migrated_postgres)
    yield made
    made.dispose()


def expected(order: Sequence[str]) -> tuple[str, dict[str, bool]]:
    """How the run stands at the end, and which of them came through."""
    status, came = "running", {}
    for verb in order:
        came[verb] = status == "running" or (verb == "cancel" and status == "queued")
        status = AFTER[verb] if came[verb] else status
    return status, came


def stands(store: Store, claim: Claim, came: dict[str, bool]) -> tuple[str, dict[str, bool]]:
    recorded = rows_of(store, "SELECT 1 FROM flows_steps WHERE run_id = :id AND state = 'done'", id=claim.run_id)
    assert bool(recorded) == came.get("record", bool(recorded))
    return str(outcome(store, claim.run_id).status), came


@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
def test_one_after_the_other(store: Store, order: Sequence[str]) -> None:
    claim = running(store)
    came = {}
    for verb in order:
        with store.begin() as tx:
            came[verb] = bool(VERBS[verb](tx, claim))
    assert stands(store, claim, came) == expected(order)


@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
def test_all_at_once_behind_one_who_holds_the_run(postgres: Store, order: Sequence[str]) -> None:
    claim = running(postgres)
    came: dict[str, bool] = {}

    def do(verb: str) -> None:
        with postgres.connection() as connection:
            came[verb] = bool(VERBS[verb](connection, claim))

    with ExitStack() as stack, postgres.connection() as holder, holder.transaction():
        holder.runs.lock([claim.run_id])
        for waiting, verb in enumerate(order, 1):
            # The server serves those who wait for a row in their order.
            thread = threading.Thread(target=do, args=(verb,))
            thread.start()
            stack.callback(thread.join, 10)
            until_somebody_waits(postgres, waiting)
    assert stands(postgres, claim, came) == expected(order)
