"""A claim: one worker gets the turn, and with it all that it needs to know."""

import threading

from celeryflows.clock import TurnedClock
from celeryflows.model.runs import Delivery, NewRun, Status
from celeryflows.store.database import Store
from celeryflows.store.runs import Claim
from tests.store.making import SECOND, an_event, at_once, outcome, put_run, running, take_claim, until_somebody_waits


def test_of_many_workers_that_claim_a_run_one_wins(store: Store) -> None:
    run_ids = [put_run(store) for _ in range(10)]

    def claim_all(number: int) -> list[str]:
        with store.connection() as connection:
            won = [connection.runs.claim(run_id, f"w{number}", number + 1) for run_id in run_ids]
        return [claim.run_id for claim in won if claim is not None]

    won = at_once(6, claim_all)
    assert sorted(run_id for of_one in won for run_id in of_one) == sorted(run_ids)
    assert {outcome(store, run_id).turn for run_id in run_ids} == {1}


def test_a_claim_tells_the_run_its_event_and_the_stores_time(turned: Store, clock: TurnedClock) -> None:
    event = an_event("shop/ordered", '{"order":7,"who":"Zoë 🐙"}', ext_id="order-7")
    run = NewRun("r1", "shop.order", "v2", Status.QUEUED, event.id, message='{"queue":"fast"}')
    with turned.connection() as connection:
        connection.events.add([event])
        connection.runs.add([run])
        claim = connection.runs.claim("r1", "w1", 5)
    assert claim is not None
    assert (claim.turn, claim.token, claim.worker, claim.flow, claim.version) == (1, 5, "w1", "shop.order", "v2")
    assert (claim.attempt, claim.lost, claim.started_at, claim.at) == (0, 0, clock.now(), clock.now())
    assert claim.delivery == Delivery("r1", "shop.order", '{"queue":"fast"}')
    assert claim.event.data == {"order": 7, "who": "Zoë 🐙"}
    assert (claim.event.id, claim.event.ext_id, claim.event.name) == (event.id, "order-7", "shop/ordered")
    assert claim.event.ts == event.ts


def test_the_next_claim_has_a_new_turn_and_token_and_the_first_start(turned: Store, clock: TurnedClock) -> None:
    first = running(turned)
    with turned.connection() as connection:
        assert connection.runs.hand_back(first)
    clock.turn(SECOND)
    second = take_claim(turned, first.run_id, "w2")
    assert (second.turn, second.started_at, second.at) == (2, first.at, first.at + SECOND)
    assert second.token != first.token
    assert (outcome(turned, first.run_id).turn, outcome(turned, first.run_id).token) == (2, second.token)


def test_a_claim_whose_reply_was_lost_is_found_by_its_token_alone(store: Store) -> None:
    claim = running(store)
    with store.connection() as connection:
        assert connection.runs.claimed(claim.run_id, claim.worker, claim.token + 1) is None
        found = connection.runs.claimed(claim.run_id, claim.worker, claim.token)
        assert found is not None
        assert (found.turn, found.event, found.started_at) == (claim.turn, claim.event, claim.started_at)
        assert connection.runs.hand_back(claim)
        assert connection.runs.claimed(claim.run_id, claim.worker, claim.token) is None


def test_a_claim_ends_what_would_wake_or_expire_the_run(turned: Store, clock: TurnedClock) -> None:
    run_id = put_run(turned, expires_at=clock.now() + SECOND)
    take_claim(turned, run_id)
    clock.turn(2 * SECOND)
    with turned.connection() as connection:
        assert (connection.bounds.past("expires_at"), connection.runs.due()) == ([], [])


def test_a_claim_that_waited_for_the_row_hears_the_time_after_the_wait(migrated_postgres: str) -> None:
    store = Store(migrated_postgres)
    run_id = put_run(store)
    claimed: list[Claim] = []
    with store.connection() as holder, holder.transaction():
        holder.runs.lock([run_id])
        claimer = threading.Thread(target=lambda: claimed.append(take_claim(store, run_id)))
        claimer.start()
        until_somebody_waits(store)
        released = holder.now()
    claimer.join(10)
    assert claimed[0].at >= released
    store.dispose()
