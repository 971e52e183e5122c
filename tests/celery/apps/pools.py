"""Flows that every pool must carry: `celery -A tests.celery.apps.pools worker -P ...`."""

import asyncio
import time
from functools import partial
from typing import Any

from celeryflows import Concurrency, StepTimeout
from tests.celery.apps.sheet import Sheet, pass_gate, witness

sheet = Sheet("pools")


def number(i: int) -> int:
    witness("number", i)
    return i


@sheet.flow()
def ten(ctx: Any) -> int:
    """Ten steps, one after another."""
    return sum(ctx.step.run(f"step {i}", number, i) for i in range(10))


@sheet.flow()
def sleeper(ctx: Any) -> int:
    """A sleep between two steps."""
    first = ctx.step.run("first", number, 1)
    ctx.step.sleep("between", "200ms")
    return first + ctx.step.run("second", number, 2)


@sheet.flow()
def grouped(ctx: Any) -> int:
    """Ten branches that are over in a moment, then three that take their time."""
    quick = ctx.group.parallel(partial(ctx.step.run, "quick", number, 10 + i) for i in range(10))
    slow = ctx.group.parallel([partial(ctx.step.run, "slow", time.sleep, 0.5)] * 3)
    return ctx.step.run("sum", number, sum(quick) + len(slow))


async def slowly(i: int) -> int:
    await asyncio.sleep(0.3)
    return number(i)


@sheet.flow()
async def at_once(ctx: Any) -> list[Any]:
    """Steps of both kinds at once, a sleep, then another step."""
    found = await asyncio.gather(
        ctx.step.run("a", slowly, 1), ctx.step.run("b", slowly, 2), ctx.step.run("c", time.sleep, 0.3)
    )
    await ctx.step.sleep("between", "200ms")
    return [*found, await ctx.step.run("last", slowly, 3)]


@sheet.flow()
def timed(ctx: Any) -> list[str]:
    """A step that outlives its timeout, then comes in time; one that never does."""
    brief = ctx.step.using(timeout="200 ms", retries=1)
    found = [brief.run("late once", lambda: pass_gate("never") if ctx.attempt == 0 else "in time")]
    try:
        ctx.step.using(timeout="200 ms", retries=0).run("stuck", pass_gate, "never")
    except StepTimeout as error:
        found.append(error.name)
    return [*found, str(brief.run("after", number, 4))]


@sheet.flow()
async def timed_at_once(ctx: Any) -> list[str]:
    """Both kinds of body outlive their timeouts side by side."""
    brief = ctx.step.using(timeout="200 ms", retries=0)
    stuck = brief.run("stuck", pass_gate, "never"), brief.run("sleeping", asyncio.sleep, 60)
    found = await asyncio.gather(*stuck, ctx.step.run("c", number, 5), return_exceptions=True)
    return [type(one).__name__ for one in found]


@sheet.task(bind=True, durable=True, max_retries=1, default_retry_delay=0)
def process(self: Any, order: int) -> list[int]:
    """A durable task: turns of it run side by side, each with steps and a request of its own."""
    first = self.step.run("first", lambda: time.sleep(0.05) or number(order))
    self.step.sleep("between", "50ms")
    if self.request.retries == 0:
        raise self.retry()
    assert self.ctx.event.data["order"] == order
    return [first, self.step.run("second", lambda: time.sleep(0.05) or number(order + 1)), self.request.kwargs["order"]]


@sheet.on("pools/number", kwargs="{'i': event.data.n}")
@sheet.task(concurrency=Concurrency(1, key="kwargs.i"))
def limited(i: int) -> int:
    """A plain task under a limit."""
    return number(i)


app = sheet.worker_app()
