"""The fence: every write of a turn asks for its number and its token, and the first value recorded stays."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from celeryflows.clock import TurnedClock
from celeryflows.model.runs import Status
from celeryflows.model.steps import Memo
from celeryflows.store.connection import Connection
from celeryflows.store.database import Store
from celeryflows.store.runs import Claim
from tests.store.making import SECOND, a_step, held, outcome, rows_of, run_in, running, take_claim

WRITES: dict[str, Callable[[Connection, Claim], Any]] = {
    "record": lambda tx, claim: tx.steps.record(a_step(claim)),
    "suspend": lambda tx, claim: tx.runs.suspend(claim, 1, 0),
    "complete": lambda tx, claim: tx.runs.finish(claim, Status.COMPLETED, "1", None),
    "fail": lambda tx, claim: tx.runs.finish(claim, Status.FAILED, None, "{}"),
    "hand back": lambda tx, claim: tx.runs.hand_back(claim),
}
STRANGERS: dict[str, Callable[[Claim], Claim]] = {
    "an older turn": lambda claim: replace(claim, turn=claim.turn - 1),
    "a later turn": lambda claim: replace(claim, turn=claim.turn + 1),
    "another token": lambda claim: replace(claim, token=claim.token + 1),
}


def everything(store: Store) -> list[tuple[Any, ...]]:
    runs = rows_of(store, "SELECT id, status, turn, worker, wake_at, output, error, ended_at FROM flows_runs")
    return [*runs, *rows_of(store, "SELECT run_id, key, state, value FROM flows_steps")]


def memo(store: Store, claim: Claim, key: str = "charge") -> Memo:
    with store.connection() as connection:
        return connection.steps.memos(claim.run_id)[key]


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("stranger", STRANGERS)
def test_only_the_turn_and_token_that_claimed_may_write(store: Store, write: str, stranger: str) -> None:
    claim = running(store)
    before = everything(store)
    with store.connection() as connection:
        assert not WRITES[write](connection, STRANGERS[stranger](claim))
        assert everything(store) == before
        assert WRITES[write](connection, claim)
    assert everything(store) != before


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("status", [status for status in Status if status is not Status.RUNNING])
def test_a_turn_writes_nothing_once_its_run_left_running(store: Store, write: str, status: Status) -> None:
    run_id, claim = run_in(store, status)
    claim = claim or replace(running(store), run_id=run_id)
    before = everything(store)
    with store.connection() as connection:
        assert not WRITES[write](connection, claim)
    assert everything(store) == before


@pytest.mark.parametrize("write", WRITES)
def test_a_zombie_writes_nothing_after_its_run_was_taken_over(store: Store, write: str) -> None:
    zombie = running(store)
    with store.connection() as connection:
        assert connection.runs.requeue(held(zombie))
        requeued = everything(store)
        assert not WRITES[write](connection, zombie)
        assert everything(store) == requeued
        take_claim(store, zombie.run_id, "w2")
        taken_over = everything(store)
        assert not WRITES[write](connection, zombie)
    assert everything(store) == taken_over


def test_a_run_that_was_requeued_is_no_longer_its_last_claims(store: Store) -> None:
    zombie = running(store)
    with store.connection() as connection:
        connection.runs.requeue(held(zombie))
    assert outcome(store, zombie.run_id).token != zombie.token


def test_a_record_gives_the_stores_time(turned: Store, clock: TurnedClock) -> None:
    claim = running(turned)
    clock.turn(SECOND)
    with turned.connection() as connection:
        assert connection.steps.record(a_step(claim)) == claim.at + SECOND


def test_the_first_value_that_is_recorded_stays(store: Store) -> None:
    claim = running(store)
    with store.connection() as connection:
        assert connection.steps.record(a_step(claim, value='"first"'))
        assert connection.steps.record(a_step(claim, value='"second"')) is None
        assert connection.steps.record(a_step(claim, state="failed", value="{}")) is None
        connection.steps.put([a_step(claim, state="waiting", value=None)])
    assert (memo(store, claim).state, memo(store, claim).value) == ("done", '"first"')


@pytest.mark.parametrize("state", ["done", "failed", "late"])
def test_a_step_that_ended_never_changes(store: Store, state: str) -> None:
    claim = running(store)
    with store.connection() as connection:
        assert connection.steps.record(a_step(claim, state=state, value='"kept"'))
        assert connection.steps.record(a_step(claim, value='"late"')) is None
    assert (memo(store, claim).state, memo(store, claim).value) == (state, '"kept"')


@pytest.mark.parametrize("state", ["retrying", "waiting"])
def test_a_step_under_way_takes_its_next_attempt_and_keeps_when_it_began(store: Store, state: str) -> None:
    claim = running(store)
    with store.connection() as connection:
        assert connection.steps.record(a_step(claim, state=state, value=None, began=5, due=7))
        assert connection.steps.record(a_step(claim, value="2", attempts=2, began=6))
    found = memo(store, claim)
    assert (found.kind, found.state, found.attempts, found.value) == ("run", "done", 2, "2")
    assert (found.began, found.due_at) == (5, None)


def test_a_late_value_is_kept_and_changes_nothing(store: Store) -> None:
    claim = running(store)
    with store.connection() as connection:
        assert connection.steps.record(a_step(claim, "first"))
        connection.runs.cancel([claim.run_id], "no")
        before = outcome(store, claim.run_id)
        connection.steps.put_late(a_step(claim, "second", "2"))
        connection.steps.put_late(a_step(claim, "first", "3"))
    assert (memo(store, claim, "second").state, memo(store, claim, "second").value) == ("late", "2")
    assert (memo(store, claim, "first").state, memo(store, claim, "first").value) == ("done", "1")
    assert outcome(store, claim.run_id) == before


def test_recovery_queues_only_the_turn_that_it_saw(store: Store) -> None:
    claim = running(store)
    with store.connection() as connection:
        [seen] = connection.runs.of_worker(claim.worker)
        assert seen == held(claim)
        for stranger in STRANGERS.values():
            assert connection.runs.requeue(held(stranger(claim))) is None
        assert connection.runs.requeue(seen)
