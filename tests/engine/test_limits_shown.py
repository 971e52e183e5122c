"""What the desk shows of limits: who is inside, how many may be, who waits and since when."""

from celeryflows import Concurrency, Event, Throttle
from celeryflows.console.limits import limits
from celeryflows.durations import format_duration, to_datetime
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
