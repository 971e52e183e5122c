"""Messages under way: what nobody claimed is found, and the right to send it again is won once."""

from celeryflows.clock import TurnedClock
from celeryflows.model.runs import Delivery, Status
from celeryflows.store.database import Store
from tests.store.making import SECOND, at_once, put_run, rows_of, take_claim


def test_queued_runs_that_nobody_claims_are_found_by_their_age(turned: Store, clock: TurnedClock) -> None:
    old = put_run(turned, message='{"queue":"q"}')
    claimed = put_run(turned)
    put_run(turned, Status.SCHEDULED, wake_at=clock.now())
    take_claim(turned, claimed)
    clock.turn(3 * SECOND)
    young = put_run(turned)
    clock.turn(2 * SECOND)
    with turned.connection() as connection:
        [one] = connection.messages.unclaimed(5 * SECOND)
        assert (one.delivery, one.age, one.sends) == (Delivery(old, "shop.order", '{"queue":"q"}'), 5 * SECOND, 0)
        both = connection.messages.unclaimed(2 * SECOND)
        assert [found.delivery.run_id for found in both] == [old, young]
        assert [found.delivery.run_id for found in connection.messages.unclaimed(2 * SECOND, limit=1)] == [old]


def test_the_right_to_send_again_is_won_once(turned: Store, clock: TurnedClock) -> None:
    run_id = put_run(turned)
    clock.turn(5 * SECOND)
    with turned.connection() as connection:
        [one] = connection.messages.unclaimed(5 * SECOND)

    def resend(_: int) -> bool:
        with turned.connection() as connection:
            return connection.messages.resend(run_id, one.sent_at)

    assert sorted(at_once(6, resend)) == [False] * 5 + [True]
    with turned.connection() as connection:
        assert connection.messages.unclaimed(1) == []
        clock.turn(SECOND)
        assert [(found.sends, found.age) for found in connection.messages.unclaimed(1)] == [(1, SECOND)]


def test_what_was_claimed_meanwhile_is_not_sent_again(turned: Store, clock: TurnedClock) -> None:
    run_id = put_run(turned)
    sent_at = clock.now()
    take_claim(turned, run_id)
    with turned.connection() as connection:
        assert not connection.messages.resend(run_id, sent_at)
        connection.messages.unknown_task(run_id, SECOND)
    assert rows_of(turned, "SELECT sends, sent_at FROM flows_runs") == [(0, sent_at)]


def test_a_message_that_an_old_worker_dropped_is_looked_at_again_later(turned: Store, clock: TurnedClock) -> None:
    run_id = put_run(turned)
    with turned.connection() as connection:
        connection.messages.unknown_task(run_id, 5 * SECOND)
        clock.turn(9 * SECOND)
        assert connection.messages.unclaimed(5 * SECOND) == []
        clock.turn(SECOND)
        assert [(found.delivery.run_id, found.sends) for found in connection.messages.unclaimed(5 * SECOND)] == [
            (run_id, 1)
        ]


def test_the_newest_message_that_is_worked_on_is_known_by_flow(turned: Store, clock: TurnedClock) -> None:
    for flow in ("a", "b", "a", "b"):
        take_claim(turned, put_run(turned, flow=flow))
        clock.turn(SECOND)
    put_run(turned, flow="a")
    with turned.connection() as connection:
        newest = connection.messages.newest_claimed()
    assert newest == {"a": clock.now() - 2 * SECOND, "b": clock.now() - SECOND}


def test_after_the_broker_lost_everything_what_it_had_is_sent_again_oldest_first(
    turned: Store, clock: TurnedClock
) -> None:
    lost = []
    for _ in range(3):
        lost.append(put_run(turned))
        clock.turn(SECOND)
    claimed = put_run(turned)
    take_claim(turned, claimed)
    with turned.connection() as connection:
        # No broker has ever been seen: nothing tells what it had.
        assert connection.messages.resend_all(10) == []
        connection.flows.put_fact("broker_epoch_at", str(clock.now()))
        clock.turn(SECOND)
        put_run(turned)
        first, rest = connection.messages.resend_all(2), connection.messages.resend_all(10)
        assert ({one.run_id for one in first}, [one.run_id for one in rest]) == (set(lost[:2]), lost[2:])
        assert connection.messages.resend_all(10) == []
