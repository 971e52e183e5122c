"""A record that took no row is read back: our own commit, a cancelled run, or a turn that is no longer ours."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from celeryflows.engine.recording import Recorder
from celeryflows.engine.turn import never
from celeryflows.errors import LostTurn, TurnCancelled
from celeryflows.model.runs import Status
from celeryflows.store.connection import Connection
from celeryflows.store.database import Store
from celeryflows.store.runs import Claim
from celeryflows.store.steps import StepRow
from tests.store.making import a_runtime, a_step, held, rows_of, running


def record(store: Store, claim: Claim, row: StepRow) -> tuple[str | None, int]:
    """What the engine's pen makes of it: the value that was there first, and the clock it heard."""
    with store.connection() as connection:
        recorder = Recorder(a_runtime(store), connection, claim, never)
        return recorder.record(row), recorder.heard


def steps(store: Store) -> list[tuple[Any, ...]]:
    return rows_of(store, "SELECT key, state, value, turn FROM flows_steps ORDER BY key")


@pytest.mark.parametrize("state", ["done", "failed"])
def test_the_turns_own_earlier_record_is_adopted(store: Store, state: str) -> None:
    claim = running(store)
    with store.connection() as connection:
        at = connection.steps.record(a_step(claim, state=state, value='"first"'))
    assert record(store, claim, a_step(claim, value='"again"')) == ('"first"', at)
    assert steps(store) == [("charge", state, '"first"', 1)]


def test_a_cancelled_turn_leaves_its_value_as_late(store: Store) -> None:
    claim = running(store)
    with store.connection() as connection:
        connection.runs.cancel([claim.run_id], "no")
    with pytest.raises(TurnCancelled):
        record(store, claim, a_step(claim, value="2"))
    assert steps(store) == [("charge", "late", "2", 1)]


def test_a_cancelled_turn_that_failed_leaves_nothing(store: Store) -> None:
    claim = running(store)
    with store.connection() as connection:
        connection.runs.cancel([claim.run_id], "no")
    with pytest.raises(TurnCancelled):
        record(store, claim, a_step(claim, state="retrying", value="{}"))
    assert steps(store) == []


def _take_over(connection: Connection, claim: Claim) -> None:
    connection.runs.requeue(held(claim))
    connection.runs.claim(claim.run_id, "w2", claim.token + 1)


def _take_over_and_record(connection: Connection, claim: Claim) -> None:
    _take_over(connection, claim)
    connection.steps.record(a_step(replace(claim, turn=2, token=claim.token + 1), value='"theirs"'))


def _take_over_and_cancel(connection: Connection, claim: Claim) -> None:
    _take_over(connection, claim)
    connection.runs.cancel([claim.run_id], "no")


def _claim_again_as_the_same_turn(connection: Connection, claim: Claim) -> None:
    """As after a crash of the database that lost the first claim."""
    connection.execute("UPDATE flows_runs SET claim_tok = claim_tok + 1 WHERE id = :id", id=claim.run_id)


def _forget_the_run(connection: Connection, claim: Claim) -> None:
    connection.execute("DELETE FROM flows_runs WHERE id = :id", id=claim.run_id)


LOSSES: dict[str, Callable[[Connection, Claim], object]] = {
    "requeued": lambda connection, claim: connection.runs.requeue(held(claim)),
    "handed back": lambda connection, claim: connection.runs.hand_back(claim),
    "suspended": lambda connection, claim: connection.runs.suspend(claim, None, 0),
    "completed": lambda connection, claim: connection.runs.finish(claim, Status.COMPLETED, None, None),
    "failed": lambda connection, claim: connection.runs.finish(claim, Status.FAILED, None, None),
    "taken over": _take_over,
    "taken over and recorded": _take_over_and_record,
    "taken over and cancelled": _take_over_and_cancel,
    "claimed again as the same turn": _claim_again_as_the_same_turn,
    "gone": _forget_the_run,
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_zombie_is_told_that_it_lost_its_turn_and_leaves_nothing(store: Store, loss: str) -> None:
    claim = running(store)
    with store.connection() as connection:
        LOSSES[loss](connection, claim)
    before = steps(store)
    with pytest.raises((LostTurn, TurnCancelled)) as raised:
        record(store, claim, a_step(claim, value='"zombie"'))
    assert raised.type is (TurnCancelled if loss == "taken over and cancelled" else LostTurn)
    assert steps(store) == before
