"""Waits: armed once, found by name and value, answered or expired but never both."""

import pytest

from celeryflows.clock import TurnedClock
from celeryflows.model.runs import Status
from celeryflows.model.waits import match_hash
from celeryflows.store.database import Store
from celeryflows.store.runs import Claim
from tests.store.making import a_step, a_wait, at_once, outcome, put_event, rows_of, running

PAID = match_hash("shop/paid", "data.order", "1")


def armed(store: Store, key: str = "paid", claim: Claim | None = None, **fields: object) -> str:
    """A run that waits; the wait's id."""
    wait = a_wait(claim or running(store), key, **fields)  # type: ignore[arg-type]
    with store.connection() as connection:
        connection.waits.arm(wait)
    return wait.id


def states(store: Store) -> dict[str, str]:
    return dict(rows_of(store, "SELECT id, state FROM flows_waits"))  # type: ignore[arg-type]


def test_an_armed_wait_is_found_by_its_name_and_value_alone(store: Store) -> None:
    claim = running(store)
    wait = a_wait(claim, if_exp="async.data.total > 5")
    with store.connection() as connection:
        connection.waits.arm(wait)
        [found] = connection.waits.open_for("shop/paid", [PAID, 5])
        assert (found.id, found.run_id, found.key) == (wait.id, claim.run_id, "paid")
        assert (found.name, found.path, found.value, found.if_exp) == ("shop/paid", "data.order", "1", wait.spec.if_exp)
        # The run's own event is there for the condition.
        assert found.trigger == claim.event
        assert connection.waits.open_for("shop/refunded", [PAID]) == []
        assert connection.waits.open_for("shop/paid", [5]) == []
        assert connection.waits.open_for("shop/paid", []) == []


def test_a_wait_without_a_condition_brings_no_event_along(store: Store) -> None:
    armed(store)
    with store.connection() as connection:
        assert connection.waits.open_for("shop/paid", [PAID])[0].trigger is None


def test_a_wait_that_is_armed_again_stays_as_it_is(store: Store) -> None:
    claim = running(store)
    wait_id = armed(store, claim=claim, due=5)
    event = put_event(store, "shop/paid")
    with store.connection() as connection:
        assert connection.waits.answer(wait_id, event) == claim.run_id
        connection.waits.arm(a_wait(claim, due=9))
    assert rows_of(store, "SELECT state, due_at, event_id FROM flows_waits") == [("answered", 5, event)]


def test_open_waits_come_in_pages_by_id(store: Store) -> None:
    ids = sorted(armed(store) for _ in range(5))
    with store.connection() as connection:
        first = connection.waits.open_for("shop/paid", [PAID], limit=3)
        rest = connection.waits.open_for("shop/paid", [PAID], after=first[-1].id, limit=3)
    assert [wait.id for wait in first] + [wait.id for wait in rest] == ids


def test_a_piece_finds_only_waits_armed_until_its_event_came(turned: Store, clock: TurnedClock) -> None:
    early, arrived = armed(turned), clock.now()
    clock.turn(1)
    armed(turned)
    with turned.connection() as connection:
        found = connection.waits.open_for("shop/paid", [PAID], armed_by=arrived)
    assert [wait.id for wait in found] == [early]


def test_of_many_events_at_once_one_answers_a_wait(store: Store) -> None:
    wait_id = armed(store)
    events = [put_event(store, "shop/paid") for _ in range(6)]

    def answer(number: int) -> str | None:
        with store.connection() as connection:
            return connection.waits.answer(wait_id, events[number])

    answers = at_once(6, answer)
    assert answers.count(None) == 5
    winner = next(number for number, run_id in enumerate(answers) if run_id is not None)
    assert rows_of(store, "SELECT state, event_id FROM flows_waits") == [("answered", events[winner])]


@pytest.mark.parametrize("end", ["answered", "expired", "closed"])
def test_a_wait_that_ended_stays_as_it_ended(store: Store, end: str) -> None:
    claim = running(store)
    wait_id = armed(store, claim=claim, due=1)

    def finish(name: str) -> None:
        with store.connection() as connection:
            if name == "answered":
                connection.waits.answer(wait_id, put_event(store, "shop/paid"))
            elif name == "expired":
                connection.waits.expire([claim.run_id])
            else:
                connection.waits.close(claim.run_id)

    finish(end)
    assert states(store) == {wait_id: end}
    with store.connection() as connection:
        assert connection.waits.answer(wait_id, put_event(store, "shop/paid")) is None
        assert connection.waits.open_for("shop/paid", [PAID]) == []
    for other in {"answered", "expired", "closed"} - {end}:
        finish(other)
    assert states(store) == {wait_id: end}


def test_only_what_is_due_expires(turned: Store, clock: TurnedClock) -> None:
    claim, stranger = running(turned), running(turned)
    due = armed(turned, "due", claim, due=clock.now())
    later = armed(turned, "later", claim, due=clock.now() + 1)
    of_another = armed(turned, "due", stranger, due=clock.now())
    with turned.connection() as connection:
        connection.waits.expire([claim.run_id])
    assert states(turned) == {due: "expired", later: "open", of_another: "open"}


def test_settled_tells_that_one_of_the_named_waits_has_ended(store: Store) -> None:
    claim = running(store)
    wait_id = armed(store, "a", claim)
    armed(store, "b", claim)
    with store.connection() as connection:
        assert not connection.waits.settled(claim.run_id, ["a", "b"])
        connection.waits.answer(wait_id, put_event(store, "shop/paid"))
        assert connection.waits.settled(claim.run_id, ["a", "b"])
        assert connection.waits.settled(claim.run_id, ["a"])
        assert not connection.waits.settled(claim.run_id, ["b"])
        assert not connection.waits.settled(running(store).run_id, ["a"])


def test_memos_tell_how_a_wait_stands_and_what_answered_it(store: Store) -> None:
    claim = running(store)
    wait_id = armed(store, claim=claim)
    with store.connection() as connection:
        connection.steps.put([a_step(claim, "paid", None, kind="wait", state="waiting", due=9)])
        waiting = connection.steps.memos(claim.run_id)["paid"]
        event = put_event(store, "shop/paid", '{"order":1}')
        connection.waits.answer(wait_id, event)
        answered = connection.steps.memos(claim.run_id)["paid"]
    assert (waiting.wait, waiting.event, waiting.due_at) == ("open", None, 9)
    assert answered.wait == "answered"
    assert answered.event is not None
    assert (answered.event.id, answered.event.data) == (event, {"order": 1})


def test_a_shape_is_known_once_and_by_its_own_name(store: Store) -> None:
    with store.connection() as connection:
        for name, path in [("a", "data.x"), ("a", "data.x"), ("a", ""), ("b", "data.y")]:
            connection.waits.add_shape(name, path)
        assert connection.waits.shapes(["a", "b", "c", "a"]) == {"a": ["", "data.x"], "b": ["data.y"]}
        assert connection.waits.shapes([]) == {}
        connection.flows.touch()
        shapes, version = connection.waits.shapes_and_version(["b"])
        assert (shapes, version) == ({"b": ["data.y"]}, connection.flows.version())


def test_of_an_event_and_the_timeout_at_one_instant_one_wakes_the_run(turned: Store, clock: TurnedClock) -> None:
    for _ in range(10):
        claim = running(turned)
        wait_id = armed(turned, claim=claim, due=clock.now())
        event = put_event(turned, "shop/paid")
        with turned.connection() as connection:
            assert connection.runs.suspend(claim, clock.now(), 0)

        def wake(number: int, claim: Claim = claim, wait_id: str = wait_id, event: str = event) -> int:
            with turned.begin() as tx:
                tx.runs.lock([claim.run_id])
                if number == 0:
                    woken = tx.runs.queue_due([claim.run_id])
                    tx.waits.expire([run.run_id for run in woken])
                    return len(woken)
                return len(tx.runs.queue_answered([claim.run_id])) if tx.waits.answer(wait_id, event) else 0

        assert sorted(at_once(2, wake)) == [0, 1]
        assert outcome(turned, claim.run_id).status == Status.QUEUED
        assert states(turned)[wait_id] in ("answered", "expired")
