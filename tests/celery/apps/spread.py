"""Flows whose branches a test holds up, counts and kills: `celery -A tests.celery.apps.spread`."""

import time
from functools import partial
from typing import Any

from tests.celery.apps.sheet import Sheet, pass_gate, witness

sheet = Sheet("spread")


def stay(run_id: str, step: str, at: str) -> str:
    witness(run_id, step)
    pass_gate(at)
    return step


def tell(run_id: str, step: str) -> str:
    witness(run_id, step)
    return step


@sheet.flow()
def ten(ctx: Any) -> Any:
    """Ten branches that stay until their gate opens, then a step."""
    gate = ctx.event.data["gate"]
    told = ctx.group.parallel(partial(ctx.step.run, "stay", stay, ctx.run_id, f"b{n}", gate) for n in range(10))
    return ctx.step.run("after", lambda: tell(ctx.run_id, "after") and told)


@sheet.flow()
async def aten(ctx: Any) -> Any:
    """The same, awaited."""
    gate = ctx.event.data["gate"]
    told = await ctx.group.parallel(partial(ctx.step.run, "stay", stay, ctx.run_id, f"b{n}", gate) for n in range(3))
    return await ctx.step.run("after", lambda: tell(ctx.run_id, "after") and told)


@sheet.flow()
def sequences(ctx: Any) -> Any:
    """Branches of three steps; the second of one of them stays until its gate opens."""

    def three(name: str) -> list[str]:
        first = ctx.step.run("first", tell, ctx.run_id, f"{name}1")
        work = partial(stay, at=ctx.event.data["gate"]) if name == "a" else tell
        second = ctx.step.run("second", work, ctx.run_id, f"{name}2")
        return [first, second, ctx.step.run("third", tell, ctx.run_id, f"{name}3")]

    return ctx.group.parallel(partial(three, name) for name in "abc")


@sheet.flow()
def long(ctx: Any) -> Any:
    """Two branches of many short steps."""

    def many(name: str) -> int:
        for i in range(60):
            ctx.step.run(f"step {i}", brief, ctx.run_id, f"{name}{i}")
        return 60

    return ctx.group.parallel(partial(many, name) for name in "ab")


@sheet.flow()
def hare(ctx: Any) -> Any:
    """A race of a wait, a long sleep, and a step that stays until its gate opens."""
    won = ctx.group.race(
        partial(ctx.step.wait_for_event, "w", event="spread/no", timeout="1h"),
        partial(ctx.step.sleep, "nap", "1h"),
        partial(ctx.step.run, "stay", stay, ctx.run_id, "runs", ctx.event.data["gate"]),
    )
    tell(ctx.run_id, "won")
    return won


def brief(run_id: str, step: str) -> None:
    witness(run_id, step)
    time.sleep(0.05)


@sheet.task()
def take(value: Any, run_id: str) -> Any:
    """What follows a flow in a chain."""
    witness(run_id, "taken", len(value))
    return value


app = sheet.worker_app()
