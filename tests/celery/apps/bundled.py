"""Flows whose runs come together: `celery -A tests.celery.apps.bundled`."""

from functools import partial
from typing import Any

from celery import current_task, signals

from tests.celery.apps.sheet import Sheet, pass_gate, witness

sheet = Sheet("bundled")
# Where the task of a run stays when its turn is over.
behind: list[str] = []


def tell(name: str, value: Any) -> Any:
    witness(name, "step")
    return value


def stay(name: str, at: str) -> str:
    witness(name, "stays")
    pass_gate(at)
    return at


@sheet.flow(trigger="bundled/sent")
def one(ctx: Any) -> Any:
    """A step; of those that have a gate one more, which stays there, or the task does, behind its turn."""
    name, gate = ctx.event.data["name"], ctx.event.data.get("gate")
    witness(name, "is", current_task.request.id, ctx.run_id)
    value = ctx.step.run("tell", tell, name, ctx.event.data["name"])
    if gate and gate.startswith("behind"):
        behind.append(gate)
    elif gate:
        ctx.step.run("stay", stay, name, gate)
    return value


@sheet.flow(trigger="bundled/spread")
def three(ctx: Any) -> Any:
    """Three branches; of those that have a gate one stays there."""
    name, gate = ctx.event.data["name"], ctx.event.data.get("gate")
    work = [partial(ctx.step.run, f"b{n}", tell, f"{name}/b{n}", n) for n in range(2)]
    last = partial(stay, name, gate) if gate else partial(tell, f"{name}/b2", 2)
    return ctx.group.parallel([*work, partial(ctx.step.run, "b2", last)])


@sheet.flow(trigger="bundled/failing", retries=0)
def failing(ctx: Any) -> Any:
    """Every other one fails."""
    if ctx.event.data["number"] % 2:
        raise ValueError("odd")
    return "even"


@signals.task_prerun.connect
def begins(task_id: str = "", task: Any = None, **_: Any) -> None:
    witness("begins", task.name, task_id)


@signals.task_postrun.connect
def is_over(task_id: str = "", task: Any = None, state: str = "", **_: Any) -> None:
    witness("over", task.name, task_id, state)
    if behind and task.name == "bundled.one":
        gate = behind.pop()
        witness(gate, "stays")
        pass_gate(gate)


app = sheet.worker_app()
