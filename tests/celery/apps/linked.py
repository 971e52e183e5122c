"""Flows that invoke, signal and go on as new: `celery -A tests.celery.apps.linked`."""

from typing import Any

from celeryflows import InvokeError
from tests.celery.apps.sheet import Sheet, pass_gate, witness

sheet = Sheet("linked")


@sheet.task()
def note(value: Any) -> None:
    witness("note", value)


def work(run_id: str, n: int, gate: str | None) -> int:
    witness("work", run_id)
    if gate:
        pass_gate(gate)
    return n * 2


@sheet.flow()
def child(ctx: Any) -> int:
    """Sleep, then a step that may stay at a gate."""
    data = ctx.event.data
    ctx.step.sleep("nap", "200ms")
    return int(ctx.step.run("work", work, ctx.run_id, data["n"], data.get("gate")))


@sheet.flow(retries=0)
def broken(ctx: Any) -> None:
    """Always fails."""
    raise ValueError("no stock")


@sheet.flow()
def parent(ctx: Any) -> Any:
    """The value of a child and the error of another."""
    value = ctx.step.invoke("child", "linked.child", ctx.event.data)
    try:
        ctx.step.invoke("broken", "linked.broken")
    except InvokeError as error:
        return [value, error.name, error.message]


@sheet.flow()
def approval(ctx: Any) -> Any:
    """Wait for a signal."""
    ctx.step.run("asked", witness, "asked", ctx.run_id)
    came = ctx.step.wait_for_signal("approval", f"approval/{ctx.event.data['id']}", timeout="1h")
    return came.data


@sheet.flow()
async def count(ctx: Any) -> int:
    """Go on as new until nothing is left; the steps that were done."""
    left, done = ctx.event.data["left"], ctx.event.data.get("done", 0)
    for i in range(100):
        done += await ctx.step.run(f"step {i}", lambda: 1)
    if left:
        await ctx.continue_as_new({"left": left - 1, "done": done})
    return int(done)


@sheet.flow()
def endless(ctx: Any) -> None:
    """Go on as new for ever, slowly."""
    ctx.step.run("see", witness, "round", ctx.event.data.get("n", 0))
    ctx.step.sleep("pause", "300ms")
    ctx.continue_as_new({"n": ctx.event.data.get("n", 0) + 1})


app = sheet.worker_app()
