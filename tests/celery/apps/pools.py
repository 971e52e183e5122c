"""Flows that every pool must carry: `celery -A tests.celery.apps.pools worker -P ...`."""

import asyncio
import time
from typing import Any

from tests.celery.apps.sheet import Sheet, witness

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


app = sheet.worker_app()
