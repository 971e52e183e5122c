"""A run's status changes only as the one table of moves allows: every verb from every status."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from celeryflows.model.runs import MOVES, OPEN, Status, sources
from celeryflows.store.connection import Connection
from celeryflows.store.database import Store
from celeryflows.store.runs import Claim
from tests.store.making import SECOND, held, outcome, run_in, running, take_claim


@dataclass(frozen=True)
class Verb:
    """A verb, the status it moves to, and the ones it takes runs from."""

    call: Callable[[Connection, Claim], Any]
    to: Status
    takes: frozenset[Status]


VERBS = {
    "claim": Verb(lambda c, run: c.runs.claim(run.run_id, "w9", 9), Status.RUNNING, frozenset({Status.QUEUED})),
    "suspend": Verb(lambda c, run: c.runs.suspend(run, 1, 0), Status.SUSPENDED, frozenset({Status.RUNNING})),
    "complete": Verb(
        lambda c, run: c.runs.finish(run, Status.COMPLETED, "1", None), Status.COMPLETED, frozenset({Status.RUNNING})
    ),
    "fail": Verb(
        lambda c, run: c.runs.finish(run, Status.FAILED, None, "{}"), Status.FAILED, frozenset({Status.RUNNING})
    ),
    "hand back": Verb(lambda c, run: c.runs.hand_back(run), Status.QUEUED, frozenset({Status.RUNNING})),
    "requeue": Verb(lambda c, run: c.runs.requeue(held(run)), Status.QUEUED, frozenset({Status.RUNNING})),
    "cancel": Verb(lambda c, run: c.runs.cancel([run.run_id], "no"), Status.CANCELLED, OPEN),
    "fail lost": Verb(lambda c, run: c.runs.fail_lost(run.run_id, "{}"), Status.FAILED, frozenset({Status.QUEUED})),
    "queue answered": Verb(
        lambda c, run: c.runs.queue_answered([run.run_id]), Status.QUEUED, frozenset({Status.SUSPENDED})
    ),
    "queue due": Verb(
        lambda c, run: c.runs.queue_due([run.run_id]),
        Status.QUEUED,
        frozenset({Status.SUSPENDED, Status.SCHEDULED}),
    ),
}
# The table allows them; no verb makes them yet.
UNUSED = {(Status.SCHEDULED, Status.SKIPPED), (Status.SUSPENDED, Status.FAILED)}


def in_status(store: Store, status: Status) -> Claim:
    """A claim on a run in the status, whose fence would fit but for the status."""
    run_id, claim = run_in(store, status)
    if claim is not None:
        return claim
    found = outcome(store, run_id)
    return replace(running(store), run_id=run_id, turn=found.turn, token=found.token or 0)


@pytest.mark.parametrize("old", Status)
@pytest.mark.parametrize("name", VERBS)
def test_a_verb_moves_a_run_from_where_it_may_and_from_nowhere_else(store: Store, name: str, old: Status) -> None:
    verb, run = VERBS[name], in_status(store, old)
    with store.connection() as connection:
        moved = verb.call(connection, run)
    now = Status(outcome(store, run.run_id).status)
    assert (bool(moved), now) == ((True, verb.to) if old in verb.takes else (False, old))
    assert now is old or now in MOVES[old]


def test_the_verbs_are_the_table() -> None:
    made = {(old, verb.to) for verb in VERBS.values() for old in verb.takes}
    allowed = {(old, new) for old, moves in MOVES.items() for new in moves}
    assert made <= allowed
    assert allowed - made == UNUSED
    assert {new: sources(new) for new in Status if sources(new)} == {
        new: frozenset(old for old, to in allowed if to is new) for _, new in allowed
    }


@pytest.mark.parametrize("old", Status)
def test_a_turn_takes_back_only_its_own_suspension(store: Store, old: Status) -> None:
    run = in_status(store, old)
    with store.connection() as connection:
        connection.runs.resume_own(replace(run, token=run.token + 1))
        assert outcome(store, run.run_id).status == old
        connection.runs.resume_own(run)
    expected = Status.RUNNING if old is Status.SUSPENDED else old
    assert outcome(store, run.run_id).status == expected


def test_what_is_not_due_yet_is_not_queued(turned: Store) -> None:
    claim = running(turned)
    with turned.connection() as connection:
        assert connection.runs.suspend(claim, turned.clock.now() + SECOND, 0)
        assert connection.runs.queue_due([claim.run_id]) == []
    assert outcome(turned, claim.run_id).status == Status.SUSPENDED


def test_losses_count_at_one_point_and_begin_anew_at_the_next(store: Store) -> None:
    claim, lost = running(store), []
    with store.connection() as connection:
        for recorded in (0, 0, 1, 0, 0):
            if recorded:
                connection.execute(
                    "INSERT INTO flows_steps (run_id, key, kind, state, attempts, turn, began) "
                    "VALUES (:run, 'a', 'run', 'done', 1, 1, 0)",
                    run=claim.run_id,
                )
            back = connection.runs.requeue(held(claim))
            assert back is not None
            lost.append(back[1])
            claim = take_claim(store, claim.run_id)
    assert lost == [1, 2, 1, 2, 3]


def test_a_suspension_forgets_the_losses_before_it(store: Store) -> None:
    claim = running(store)
    with store.connection() as connection:
        connection.runs.requeue(held(claim))
        second = connection.runs.claim(claim.run_id, "w1", 7)
        assert second is not None
        assert second.lost == 1
        connection.runs.suspend(second, 1, 0)
        connection.runs.queue_due([claim.run_id])
        third = connection.runs.claim(claim.run_id, "w1", 8)
    assert third is not None
    assert third.lost == 0


def test_cancelling_tells_whether_a_turn_was_at_work(store: Store) -> None:
    for old in Status:
        run = in_status(store, old)
        with store.connection() as connection:
            moved = connection.runs.cancel([run.run_id, "no such run"], "no")
        assert [row.was_running for row in moved] == ([old is Status.RUNNING] if old in OPEN else [])
