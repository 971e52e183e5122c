"""Flows that send existing tasks out, of this app and of the depot's: `celery -A tests.celery.apps.remote`."""

import asyncio
from functools import partial
from typing import Any

from celery import chord, signature

from celeryflows import StepError, StepTimeout
from tests.celery.apps.sheet import Sheet, pass_gate, witness

sheet = Sheet("remote")


@sheet.task()
def count(order: str) -> int:
    """Of this app, whose workers have the extension."""
    witness("count", order)
    return len(order)


@sheet.task(time_limit=1)
def stay(order: str) -> None:
    """Stays for longer than it may."""
    witness("stay", order)
    pass_gate("never")


@sheet.task()
def hold(order: str, gate: str) -> str:
    witness("hold", order)
    pass_gate(gate)
    return f"{order} held"


@sheet.task()
def lose(order: str) -> None:
    witness("lose", order)
    raise KeyError(order)


def depot(name: str, *args: Any, queue: str = "depot", **options: Any) -> Any:
    """A task whose code is not here."""
    return signature(f"depot.{name}", args=args, options={"queue": queue, **options})


def here(name: str, *args: Any) -> Any:
    """A task of this app."""
    return signature(f"remote.{name}", args=args, options={"queue": "side"})


@sheet.flow(retries=0)
def sends(ctx: Any) -> Any:
    """The task that the caller names."""
    data = ctx.event.data
    if data.get("queue") == "side" or data["task"] in ("count", "lose", "stay"):
        task = here(data["task"], *data["args"])
    else:
        task = depot(data["task"], *data["args"], queue=data.get("queue", "depot"))
    try:
        return ctx.step.task("sent", task, timeout=data.get("timeout"))
    except StepTimeout as late:
        return ["timeout", late.message]
    except StepError as error:
        return [error.name, error.message]


@sheet.flow()
def later(ctx: Any) -> Any:
    """A task to a queue that the caller names."""
    order, queue = ctx.event.data["order"], ctx.event.data["queue"]
    return ctx.step.task("sent", depot("pack", order, queue=queue))["order"]


@sheet.flow()
def sums(ctx: Any) -> Any:
    """A chord in the depot between two steps."""
    n = ctx.step.run("before", lambda: ctx.event.data["n"])
    total = ctx.step.task("sum", chord([depot("weigh", n + i) for i in range(5)], depot("total")))
    return ctx.step.run("after", lambda: total)


@sheet.flow()
def branches(ctx: Any) -> Any:
    """Tasks in branches, and in a race that one of them wins."""
    order = ctx.event.data["order"]
    counted = ctx.group.parallel(partial(ctx.step.task, "one", here("count", f"{order}{n}")) for n in range(3))
    won = ctx.group.race(
        partial(ctx.step.task, "held", depot("hold", f"{order} loses", "never")),
        partial(ctx.step.task, "quick", here("count", order)),
    )
    return [counted, won]


@sheet.flow()
async def at_once(ctx: Any) -> Any:
    """Two tasks at once, awaited."""
    order = ctx.event.data["order"]
    packed, counted = await asyncio.gather(
        ctx.step.task("pack", depot("pack", order)), ctx.step.task("count", here("count", order))
    )
    return [packed["order"], counted]


app = sheet.worker_app()
