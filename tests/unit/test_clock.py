"""Clocks: the machine's, and the one that tests turn."""

import threading
import time

import pytest

from celeryflows.clock import Clock, SystemClock, TurnedClock


def test_the_system_clock_tells_epoch_microseconds() -> None:
    before = time.time_ns() // 1_000
    now = SystemClock().now()
    assert before <= now <= time.time_ns() // 1_000


def test_the_system_clock_has_a_monotonic_side() -> None:
    clock = SystemClock()
    assert clock.monotonic() <= clock.monotonic()


def test_a_turned_clock_starts_at_the_real_time() -> None:
    before = SystemClock().now()
    assert before <= TurnedClock().now() <= SystemClock().now()


def test_a_turned_clock_may_start_at_the_epoch_itself() -> None:
    assert TurnedClock(0).now() == 0


def test_a_turned_clock_stands_still_until_it_is_turned() -> None:
    clock: Clock = TurnedClock(1_000)
    assert (clock.now(), clock.now(), clock.monotonic()) == (1_000, 1_000, 0.0)


def test_turning_moves_both_sides_by_the_same_time() -> None:
    clock = TurnedClock(5)
    clock.turn(2_500_000)
    assert (clock.now(), clock.monotonic()) == (2_500_005, 2.5)


def test_a_clock_cannot_be_turned_back() -> None:
    clock = TurnedClock(10)
    with pytest.raises(ValueError, match="forward only"):
        clock.turn(-1)
    assert clock.now() == 10


def test_setting_a_clock_back_leaves_its_monotonic_side_where_it_was() -> None:
    clock = TurnedClock(0)
    clock.turn(3_000_000)
    clock.set(1_000_000)
    assert (clock.now(), clock.monotonic()) == (1_000_000, 3.0)
    clock.set(2_000_000)
    assert clock.monotonic() == 4.0


def test_turns_of_many_threads_all_count() -> None:
    clock = TurnedClock(0)

    def turn_often() -> None:
        for _ in range(2_000):
            clock.turn(1)

    threads = [threading.Thread(target=turn_often) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.now() == 16_000
