"""Throttle: starts at an even rate, bursts, keys, order, and what waits. The clock is turned."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from celeryflows import Concurrency, Event, Throttle
from celeryflows.flow_control.throttle import after_start, due_at
from tests.engine.crowd import Crowd
from tests.engine.world import Process, statuses

SECOND = 1_000_000


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    made = Crowd()
    yield made
    made.check()
    made.close()


def declare(process: Process, **options: Any) -> None:
    process.flow(trigger="shop/ordered", name="ship", **options)(lambda ctx: ctx.event.data.get("no"))
    process.start_worker()


def send(crowd: Crowd, count: int, user: str = "a") -> None:
    crowd.send([Event("shop/ordered", {"no": n, "user": user}) for n in range(count)])


def starts(crowd: Crowd, user: str = "a") -> list[int]:
    rows = crowd.store_rows(
        "SELECT r.started_at FROM flows_runs r JOIN flows_events e ON e.id = r.event_id "
        "WHERE r.started_at IS NOT NULL AND e.data LIKE :like ORDER BY r.id",
        like=f'%"{user}"%',
    )
    return [row[0] for row in rows]


def gaps(moments: list[int]) -> list[int]:
    return [later - earlier for earlier, later in pairwise(moments)]


def test_starts_come_at_an_even_rate_in_their_order(crowd: Crowd) -> None:
    declare(crowd, throttle=Throttle(2, "10s"))
    send(crowd, 5)
    assert statuses(crowd.runs()) == ["completed", *["queued"] * 4]
    crowd.advance("1m")
    assert [run.output for run in crowd.runs()] == [0, 1, 2, 3, 4]
    assert gaps(starts(crowd)) == [5 * SECOND] * 4


def test_a_burst_starts_at_once(crowd: Crowd) -> None:
    declare(crowd, throttle=Throttle(1, "10s", burst=3))
    send(crowd, 5)
    crowd.advance("1m")
    assert gaps(starts(crowd)) == [0, 0, 10 * SECOND, 10 * SECOND]


def test_keys_are_throttled_apart(crowd: Crowd) -> None:
    declare(crowd, throttle=Throttle(1, "10s", key="event.data.user"))
    send(crowd, 2, "a")
    send(crowd, 2, "b")
    crowd.advance("1m")
    assert gaps(starts(crowd, "a")) == gaps(starts(crowd, "b")) == [10 * SECOND]
    assert starts(crowd, "a")[0] == starts(crowd, "b")[0]


def test_who_comes_later_stands_behind_those_who_wait(crowd: Crowd) -> None:
    declare(crowd, throttle=Throttle(1, "10s"))
    send(crowd, 2)
    crowd.advance("4s")
    send(crowd, 1)
    crowd.advance("1m")
    assert gaps(starts(crowd)) == [10 * SECOND, 10 * SECOND]


def test_after_a_quiet_time_the_first_starts_at_once(crowd: Crowd) -> None:
    declare(crowd, throttle=Throttle(1, "10s"))
    send(crowd, 1)
    crowd.advance("1m")
    send(crowd, 1)
    assert statuses(crowd.runs()) == ["completed"] * 2


def test_a_run_that_waits_may_be_cancelled(crowd: Crowd) -> None:
    declare(crowd, throttle=Throttle(1, "10s"))
    send(crowd, 3)
    crowd.runs()[1].cancel()
    crowd.check()
    crowd.advance("10s")
    assert statuses(crowd.runs()) == ["completed", "cancelled", "completed"]


@pytest.mark.parametrize(
    ("after", "done"), [({"throttle": Throttle(1, "1s")}, 6), ({"throttle": Throttle(1, "1h")}, 1), ({}, 6)]
)
def test_a_changed_rate_holds_for_those_who_wait(crowd: Crowd, after: dict[str, Any], done: int) -> None:
    declare(crowd, throttle=Throttle(1, "1m"))
    send(crowd, 6)
    declare(crowd.process(), **after)
    crowd.advance("8s")
    assert statuses(crowd.runs()).count("completed") == done
    crowd.advance("6h")
    assert statuses(crowd.runs()) == ["completed"] * 6


def test_throttle_comes_first_and_concurrency_second(crowd: Crowd) -> None:
    declare(crowd, throttle=Throttle(1, "10s", burst=3), concurrency=2)
    crowd.flows.send([Event("shop/ordered", {"no": n, "user": "a"}) for n in range(5)])
    assert (crowd.started(), crowd.held()) == (2, 3)
    crowd.drain()
    assert statuses(crowd.runs()).count("completed") == 3
    crowd.advance("1m")
    assert statuses(crowd.runs()) == ["completed"] * 5


def test_a_throttle_delays_starts_not_what_comes_back(crowd: Crowd) -> None:
    @crowd.flow(trigger="shop/ordered", throttle=Throttle(1, "1h"), concurrency=Concurrency(1))
    def ship(ctx: Any) -> int:
        for n in range(3):
            ctx.step.sleep(f"nap {n}", "1s")
        return 1

    crowd.start_worker()
    send(crowd, 1)
    crowd.advance("5s")
    assert crowd.only_run().output == 1


def test_a_start_that_is_scheduled_is_throttled_when_its_time_has_come(crowd: Crowd) -> None:
    declare(crowd, throttle=Throttle(1, "10s"), concurrency=1)
    later = crowd.clock.now() + 60 * SECOND
    from celeryflows.durations import to_datetime

    crowd.send([Event("shop/ordered", {"no": n, "user": "a"}, ts=to_datetime(later)) for n in range(3)])
    assert statuses(crowd.runs()) == ["scheduled"] * 3
    crowd.advance("61s")
    assert statuses(crowd.runs()).count("completed") == 1
    crowd.advance("1m")
    assert gaps(sorted(starts(crowd))) == [10 * SECOND] * 2


def test_a_late_leader_makes_up_for_a_fifth_of_a_gap_and_no_more() -> None:
    rate = Throttle(1, "10s")
    on_time = after_start(rate, 50 * SECOND, 50 * SECOND, late=True)
    a_bit_late = after_start(rate, 50 * SECOND, 51 * SECOND, late=True)
    very_late = after_start(rate, 50 * SECOND, 90 * SECOND, late=True)
    assert [due_at(rate, tat) for tat in (on_time, a_bit_late, very_late)] == [
        60 * SECOND,
        60 * SECOND,
        98 * SECOND,
    ]
