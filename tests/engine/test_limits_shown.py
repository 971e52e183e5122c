"""What the desk shows of limits: who is inside, how many may be, who waits and since when."""

from celeryflows import Batch, Concurrency, Debounce, Event, Throttle
from celeryflows.console.limits import limits
from celeryflows.durations import format_duration, to_datetime
from celeryflows.engine.closing import close_due
from tests.engine.crowd import Crowd


def test_each_limit_shows_its_key_use_capacity_and_line() -> None:
    crowd = Crowd()
    crowd.flow(
        trigger="shop/ordered",
        name="ship",
        concurrency=[Concurrency(2, key="event.data.user"), Concurrency(9)],
    )(lambda ctx: None)
    crowd.flow(trigger="shop/paid", name="bill", throttle=Throttle(1, "1m", key="event.data.user"))(lambda ctx: None)
    crowd.start_worker()
    assert limits(crowd.runtime) == []
    began = crowd.clock.now()
    crowd.flows.send([Event("shop/ordered", {"user": user}) for user in "aaab"])
    crowd.tick()
    crowd.flows.send([Event("shop/paid", {"user": "c"}) for _ in range(3)])

    shown = {(one.kind, one.value): one for one in limits(crowd.runtime)}
    of_a = shown["concurrency", "a"]
    assert (of_a.flow, of_a.key, of_a.scope) == ("ship", "event.data.user", "flow")
    assert (of_a.used, of_a.capacity, of_a.waiting, of_a.oldest) == (2, 2, 1, to_datetime(began))
    wide = shown["concurrency", None]
    assert (wide.used, wide.capacity, wide.waiting, wide.oldest) == (3, 9, 0, None)
    paced = shown["throttle", "c"]
    assert (paced.flow, paced.waiting, paced.rate) == ("bill", 2, f"1 each {format_duration(60_000_000)}")
    assert paced.next_at == to_datetime(crowd.clock.now() + 60_000_000)
    assert [one.flow for one in limits(crowd.runtime, flow="bill")] == ["bill"]
    crowd.close()


def test_windows_show_what_is_in_them_and_when_they_close() -> None:
    crowd = Crowd()
    crowd.flow(
        trigger="doc/edited",
        name="index",
        debounce=Debounce("10s", key="event.data.doc"),
        batch=Batch(3, "1m", key="event.data.of"),
    )(lambda ctx: None)
    crowd.start_worker()
    began = crowd.clock.now()
    crowd.flows.send([Event("doc/edited", {"doc": doc, "of": "x"}) for doc in "aab"])
    (of_a, of_b) = sorted(limits(crowd.runtime), key=lambda one: str(one.value))
    assert (of_a.kind, of_a.flow, of_a.key, of_a.value, of_a.waiting) == ("debounce", "index", "event.data.doc", "a", 1)
    assert (of_a.rate, of_a.used, of_a.capacity) == ("quiet for 10 s", 0, None)
    assert of_a.oldest is not None
    assert of_a.next_at == of_b.next_at == to_datetime(began + 10_000_000)

    crowd.clock.turn(10_000_000)
    close_due(crowd.runtime)
    (gathers,) = limits(crowd.runtime, flow="index")
    assert (gathers.kind, gathers.key, gathers.value) == ("batch", "event.data.of", "x")
    assert (gathers.used, gathers.capacity, gathers.waiting) == (2, 3, 2)
    assert gathers.next_at == to_datetime(crowd.clock.now() + 60_000_000)
    crowd.clock.turn(60_000_000)
    close_due(crowd.runtime)
    assert limits(crowd.runtime) == []
    crowd.close()
