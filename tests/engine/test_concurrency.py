"""Concurrency: how many turns run at once, what waits, and who is next. The clock is turned; turns are taken by hand."""

from typing import Any

import pytest

from celeryflows import Concurrency, Event
from celeryflows.engine.turn import take_turn
from tests.engine.world import World


class Crowd(World):
    """A world in which turns overlap: a step may hold on while others start."""

    def started(self) -> list[str]:
        """The runs whose messages are under way."""
        return [one.run_id for one in self.broker.waiting]

    def take(self) -> None:
        """Take the next message's turn."""
        one = self.broker.waiting.popleft()
        take_turn(self.runtime, one.run_id, branch=one.branch)

    def held(self) -> int:
        """How many wait at a gate."""
        return self.store_rows("SELECT count(*) FROM flows_runs WHERE status = 'queued' AND held_at IS NOT NULL")[0][0]

    def in_slots(self) -> int:
        """How many slots are taken."""
        return self.store_rows("SELECT count(*) FROM flows_slots WHERE run_id IS NOT NULL")[0][0]


@pytest.fixture
def crowd() -> Any:
    made = Crowd()
    yield made
    assert made.in_slots() == made.store_rows(
        "SELECT count(*) FROM flows_runs WHERE g1 IS NOT NULL AND (status = 'running' OR (status = 'queued' AND held_at IS NULL))"
    )[0][0]
    made.close()


def plain(crowd: Crowd, **options: Any) -> None:
    @crowd.flow(trigger="shop/ordered", name="ship", **options)
    def ship(ctx: Any) -> Any:
        return ctx.step.run("pack", lambda: ctx.event.data.get("no"))

    crowd.start_worker()


def test_no_more_runs_start_than_the_limit_lets_in_and_each_end_starts_the_next(crowd: Crowd) -> None:
    plain(crowd, concurrency=2)
    crowd.flows.send([Event("shop/ordered", {"no": n}) for n in range(5)])
    assert len(crowd.started()) == 2
    assert crowd.held() == 3
    seen = []
    while crowd.started():
        assert crowd.in_slots() <= 2
        crowd.take()
        seen.append(len(crowd.started()))
    assert seen == [2, 2, 2, 1, 0]
    assert [run.output for run in crowd.runs()] == [0, 1, 2, 3, 4]


def test_a_single_send_past_the_limit_waits(crowd: Crowd) -> None:
    plain(crowd, concurrency=1)
    for n in range(3):
        crowd.flows.send("shop/ordered", {"no": n})
    assert len(crowd.started()) == 1
    crowd.drain()
    assert [run.status for run in crowd.runs()] == ["completed"] * 3
