"""Promises of a cron after an outage: the latest missed time fires, or all of them, or none, in bounded pieces."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from celeryflows import OnCron
from tests.engine.timetable import at, cron, local
from tests.engine.world import NEW_YEAR, World, us


@pytest.mark.parametrize(
    ("missed", "expected"),
    [
        ("latest", ["01 13:00", "01 14:00"]),
        ("all", ["01 09:00", "01 10:00", "01 11:00", "01 12:00", "01 13:00", "01 14:00"]),
        ("skip", ["01 14:00"]),
    ],
)
def test_an_outage_is_followed_as_the_trigger_says(world: World, missed: str, expected: list[str]) -> None:
    fired = cron(world, "0 9-17 * * *", missed=missed)

    world.clock.set(at("2024-01-01T13:20"))
    world.run_due()
    world.turn_to(at("2024-01-01T14:10"))

    assert local(fired) == expected


def test_an_outage_that_ends_at_a_due_time_fires_it_though_missed_ones_are_skipped(world: World) -> None:
    fired = cron(world, "0 9-17 * * *", missed="skip")

    world.clock.set(at("2024-01-01T13:00") + us("2s"))
    world.run_due()

    assert local(fired) == ["01 13:00"]


def test_a_long_outage_fires_all_in_order_and_in_bounded_transactions(world: World) -> None:
    fired = cron(world, "*/10 * * * *", missed="all")
    inserted: list[int] = []

    def observe(sql: str) -> None:
        if sql.startswith("UPDATE flows_crons"):
            inserted.append(0)

    world.clock.set(NEW_YEAR + us("10h"))
    world.store.observer = observe
    world.run_due()
    world.store.observer = None

    assert fired == [NEW_YEAR + us("10m") * n for n in range(1, 61)]
    assert len(inserted) == 3


def test_a_year_of_missed_minutes_is_skipped_at_once(world: World) -> None:
    fired = cron(world, "* * * * *")

    world.clock.set(NEW_YEAR + us("365 days"))
    world.run_due()

    assert fired == [NEW_YEAR + us("365 days")]


def test_moments_are_told_apart_from_when_they_fired(world: World) -> None:
    late: list[timedelta] = []

    @world.flow(name="f", trigger=OnCron("0 9 * * *"))
    def f(ctx: Any) -> None:
        late.append(datetime.fromisoformat(ctx.event.data["fired_at"]) - ctx.event.ts)

    world.start_worker()
    world.clock.set(at("2024-01-01T11:30"))
    world.run_due()

    assert late == [timedelta(hours=2, minutes=30)]
