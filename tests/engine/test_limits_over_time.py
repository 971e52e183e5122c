"""Limits over time: what the leader counts once a minute is what was held and waited for, bounded in rows and time."""

from typing import Any

import pytest

from celeryflows import Concurrency, Event, Throttle
from celeryflows.console.limit_uses import LimitSeries, UsePoint, limit_series
from celeryflows.durations import DAY
from celeryflows.scheduler.figures import Counter
from tests.engine.crowd import Crowd
from tests.engine.world import store_at


@pytest.fixture
def crowd(store_url: str) -> Any:
    crowd = Crowd(store_at(store_url))
    crowd.flow(
        trigger="shop/ordered", name="ship", concurrency=[Concurrency(2, key="event.data.user"), Concurrency(5)]
    )(lambda ctx: None)
    crowd.flow(trigger="shop/paid", name="bill", throttle=Throttle(1, "1m"))(lambda ctx: None)
    crowd.start_worker()
    yield crowd
    crowd.close()


def now(one: LimitSeries) -> UsePoint:
    """The last point that was counted."""
    return next(point for point in reversed(one.points) if point.used is not None)


def test_each_limit_shows_what_was_in_use_of_how_much_and_who_waited(crowd) -> None:
    crowd.flows.send([Event("shop/ordered", {"user": user}) for user in "aaaabbc"])
    crowd.flows.send([Event("shop/paid", {}) for _ in range(4)])
    counter = Counter()
    counter.sample(crowd.runtime)
    counter.sample(crowd.runtime)

    keyed, wide = limit_series(crowd.runtime, "1h", flow="ship")
    assert (keyed.limit.key, keyed.limit.capacity, wide.limit.key, wide.limit.capacity) == (
        "event.data.user",
        2,
        None,
        5,
    )
    point = now(keyed)
    assert (point.used, point.keys, point.fullest, point.capacity, point.waiting) == (5, 3, 2, 2, 2)
    point = now(wide)
    assert (point.used, point.keys, point.fullest, point.capacity, point.waiting) == (5, 1, 5, 5, 0)
    (paced,) = limit_series(crowd.runtime, "1h", flow="bill")
    assert (paced.limit.kind, paced.limit.rate, now(paced).waiting) == ("throttle", "1 each 1 minute", 3)
    shown = [(one.limit.flow, one.limit.kind, one.limit.key) for one in limit_series(crowd.runtime, "1h")]
    assert shown == [
        ("bill", "throttle", None),
        ("ship", "concurrency", "event.data.user"),
        ("ship", "concurrency", None),
    ]


def test_a_limit_that_nobody_uses_costs_no_row_and_shows_that_it_was_free(crowd) -> None:
    Counter().sample(crowd.runtime)
    assert crowd.count("SELECT count(*) FROM flows_limit_uses") == 0
    assert limit_series(crowd.runtime, "1h") == []
    keyed, wide = limit_series(crowd.runtime, "24h", flow="ship")
    assert (now(keyed).used, now(wide).used, now(wide).capacity) == (0, 0, 5)
    assert wide.points[0].used is None


def test_what_many_keys_hold_is_one_row_of_their_limit(crowd) -> None:
    crowd.flows.send([Event("shop/ordered", {"user": f"u{n}"}) for n in range(40)])
    Counter().sample(crowd.runtime)
    assert crowd.count("SELECT count(*) FROM flows_limit_uses") == 2


def test_old_uses_are_forgotten(crowd) -> None:
    crowd.flows.send(Event("shop/ordered", {"user": "a"}))
    Counter().sample(crowd.runtime)
    Counter().forget(crowd.runtime)
    assert crowd.count("SELECT count(*) FROM flows_limit_uses") == 2
    crowd.store_rows(f"UPDATE flows_limit_uses SET at = at - {31 * DAY} WHERE at > 0 RETURNING 1")
    Counter().forget(crowd.runtime)
    assert crowd.count("SELECT count(*) FROM flows_limit_uses") == 0


def test_another_range_is_refused(crowd) -> None:
    with pytest.raises(ValueError, match="1h"):
        limit_series(crowd.runtime, "1 year")
