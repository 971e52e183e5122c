"""A run that backs off when its worker dies: how often it was tried, and when it is tried again, is in the store."""

from typing import Any

import pytest

from celeryflows import Backoff, Status
from tests.engine.world import Process, World

SECOND = 1_000_000


def declare(process: Process, world: World, tried: list[list[int]], where: str) -> None:
    """A flow that fails in a step or in its body, and keeps at which attempt and after how many seconds."""
    began = world.clock.now()

    def fail(ctx: Any) -> None:
        tried.append([ctx.attempt, (world.clock.now() - began) // SECOND])
        raise ValueError("no")

    @process.flow(name="f", trigger="a/b", retries=4, backoff=Backoff(first="10s", factor=2, jitter=0))
    def flow(ctx: Any) -> None:
        if where == "step":
            ctx.step.run("s", fail, ctx)
        fail(ctx)


@pytest.mark.parametrize("where", ["step", "body"])
def test_the_count_and_the_pace_of_attempts_outlive_every_process(turned: World, where: str) -> None:
    tried: list[list[int]] = []
    declare(turned, turned, tried, where)
    turned.send("a/b")
    for seconds in (10, 20, 40, 80):
        later = turned.process()
        declare(later, turned, [], where)
        later.turn_to(turned.clock.now() + (seconds - 1) * SECOND)
        later.close()
        # Each attempt is another process's, which knows nothing of those before.
        last = turned.process()
        declare(last, turned, told := [], where)
        last.turn_to(turned.clock.now() + SECOND)
        tried += [[attempt, seconds] for attempt, _ in told]
        last.close()

    assert tried == [[0, 0], [1, 10], [2, 20], [3, 40], [4, 80]]
    assert turned.only_run().status == Status.FAILED
