"""A run of ten thousand steps: what a turn costs grows with the steps that it passes by, no faster, and so does what it
holds in memory."""

import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from celeryflows import Status
from tests.engine.world import World, error_of

MOST = 10_000


@pytest.fixture
def long() -> Iterator[World]:
    world = World(max_steps=MOST)

    @world.flow(name="long", trigger="a/b", retries=0)
    def flow(ctx: Any) -> int:
        for n in range(ctx.event.data["steps"]):
            ctx.step.run(f"step {n}", lambda n=n: n)
        ctx.step.wait_for_event("go on", event="a/go", timeout="1 day")
        return int(ctx.step.run("last", lambda: 1))

    yield world
    world.close()


def replayed(world: World, steps: int) -> tuple[float, float]:
    """The seconds of the processor, and the bytes, of the turn that passes by so many steps and does one."""
    world.send("a/b", {"steps": steps})
    world.flows.send("a/go")
    began = time.process_time()
    world.drain()
    seconds = time.process_time() - began
    return seconds, _bytes_of_replay(world, steps)


def _bytes_of_replay(world: World, steps: int) -> float:
    world.send("a/b", {"steps": steps})
    world.flows.send("a/go")
    tracemalloc.start()
    world.drain()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return float(most)


def test_what_a_turn_costs_is_linear_in_the_steps_that_it_passes_by(long: World) -> None:
    replayed(long, 100)
    few, few_bytes = min(replayed(long, 1000) for _ in range(2))
    many, many_bytes = replayed(long, 8000)
    # Eight times as many; what is quadratic would take sixty-four times as long.
    assert many < 20 * few
    assert many_bytes < 12 * few_bytes
    assert many_bytes < 8000 * 3000
    assert {run.status for run in long.runs()} == {Status.COMPLETED}


def test_ten_thousand_steps_end_well_and_one_more_ends_the_run_with_the_bound_named(long: World) -> None:
    long.send("a/b", {"steps": MOST - 2})
    long.send("a/go")
    assert [run.status for run in long.runs()] == [Status.COMPLETED]
    long.send("a/b", {"steps": MOST - 1})
    long.send("a/go")
    error = error_of(long.runs(status="failed")[0])
    assert error.name == "BoundExceeded"
    assert "10,000" in error.message
    assert "flows_max_steps" in error.message
