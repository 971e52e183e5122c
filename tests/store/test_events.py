"""Events: stored once, routed once, in pieces where there are many, and found by those who look back."""

from celeryflows.clock import TurnedClock
from celeryflows.store.database import Store
from celeryflows.store.events import Unrouted
from tests.store.making import SECOND, a_wait, an_event, at_once, put_event, running


def test_an_event_is_stored_once_under_our_id(store: Store) -> None:
    first, other = an_event("a", '{"x":1}'), an_event("b")
    with store.connection() as connection:
        connection.events.add([first])
        connection.events.add([an_event("changed", '{"x":2}', id=first.id), other])
        stored = connection.events.get(first.id)
        assert stored is not None
        assert (stored.name, stored.text, stored.data) == ("a", '{"x":1}', {"x": 1})
        assert connection.events.get(other.id) is not None
        assert connection.events.get("none") is None
        assert not connection.events.add_new(first)
        assert connection.events.add_new(an_event("c"))


def test_an_event_comes_back_whole(store: Store) -> None:
    event = an_event("shop/order.paid", '{"a":[1,null]}', ext_id="mine")
    with store.connection() as connection:
        connection.events.add([event])
        stored = connection.events.get(event.id)
    assert stored is not None
    assert (stored.ext_id, stored.ts, stored.v, stored.data) == ("mine", event.ts, None, {"a": [1, None]})


def test_what_is_left_unrouted_is_found_once_it_is_old_enough(turned: Store, clock: TurnedClock) -> None:
    events = [an_event(), an_event(), an_event()]
    with turned.connection() as connection:
        for event in events:
            connection.events.add_unrouted([event])
            clock.turn(SECOND)
        connection.events.add([an_event()])
        assert [one.id for one in connection.events.unrouted(2 * SECOND)] == [events[0].id, events[1].id]
        assert [one.id for one in connection.events.unrouted(0, limit=1)] == [events[0].id]
        assert connection.events.arrived_at(events[0].id) is None
        assert connection.events.arrive(events[0].id, None)
        assert connection.events.arrived_at(events[0].id) == clock.now()
        assert [one.id for one in connection.events.unrouted(0)] == [events[1].id, events[2].id]


def test_of_many_who_route_an_event_one_does(store: Store) -> None:
    event = an_event()
    with store.connection() as connection:
        connection.events.add_unrouted([event])

    def route(_: int) -> bool:
        with store.begin() as tx:
            return tx.events.arrive(event.id, None)

    assert sorted(at_once(6, route)) == [False] * 5 + [True]


def test_a_wide_fan_out_goes_on_piece_by_piece_and_each_piece_once(store: Store) -> None:
    event, late = an_event(), an_event()
    with store.connection() as connection:
        connection.events.add([event], {event.id: ""})
        connection.events.add_unrouted([late])
        assert connection.events.arrive(late.id, "")
        assert {*connection.events.unrouted(0)} == {Unrouted(event.id, ""), Unrouted(late.id, "")}
        assert connection.events.move_piece(event.id, "", "w17")
        assert not connection.events.move_piece(event.id, "", "w17")
        assert Unrouted(event.id, "w17") in connection.events.unrouted(0)
        assert connection.events.move_piece(event.id, "w17", None)
        assert not connection.events.move_piece(event.id, "w17", None)
        assert connection.events.unrouted(0) == [Unrouted(late.id, "")]


def test_who_looks_back_finds_arrivals_in_order_from_a_moment_on(turned: Store, clock: TurnedClock) -> None:
    claim = running(turned)
    put_event(turned, "shop/paid")
    clock.turn(1)
    since = clock.now()
    ids = []
    for _ in range(3):
        ids.append(put_event(turned, "shop/paid"))
        clock.turn(1)
    put_event(turned, "shop/refunded")
    same_moment = sorted(put_event(turned, "shop/paid") for _ in range(3))
    with turned.connection() as connection:
        connection.events.add_unrouted([an_event("shop/paid")])
        found = connection.events.arrivals("shop/paid", since, claim.run_id, 10)
        assert [event.id for event in found] == [*ids, *same_moment]
        assert [e.id for e in connection.events.arrivals("shop/paid", since, claim.run_id, 2)] == ids[:2]


def test_who_looks_back_finds_neither_its_own_trigger_nor_what_it_has_had(store: Store) -> None:
    claim, other = running(store), running(store)
    taken, free = put_event(store, "shop/ordered"), put_event(store, "shop/ordered")
    with store.connection() as connection:
        wait = a_wait(claim, name="shop/ordered")
        connection.waits.arm(wait)
        connection.waits.answer(wait.id, taken)
        mine = {event.id for event in connection.events.arrivals("shop/ordered", 0, claim.run_id, 10)}
        theirs = {event.id for event in connection.events.arrivals("shop/ordered", 0, other.run_id, 10)}
    assert mine == {other.event.id, free}
    assert theirs == {claim.event.id, taken, free}


def test_an_arrival_is_dated_when_it_was_routed_not_when_it_was_stored(turned: Store, clock: TurnedClock) -> None:
    event = an_event("shop/paid")
    claim = running(turned)
    with turned.connection() as connection:
        connection.events.add_unrouted([event])
        clock.turn(SECOND)
        since = clock.now()
        connection.events.arrive(event.id, None)
        assert [e.id for e in connection.events.arrivals("shop/paid", since, claim.run_id, 10)] == [event.id]
