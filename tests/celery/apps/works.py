"""Flows whose steps a test holds up, counts and kills: `celery -A tests.celery.apps.works`."""

import os
import signal
import time
from typing import Any

from celeryflows import Backoff
from tests.celery.apps.sheet import Sheet, first_time, pass_gate, witness

sheet = Sheet("works")


def tell(run_id: str, step: str) -> str:
    witness(run_id, step)
    return f"{step} by {os.getpid()} at {time.time_ns()}"


def stay(run_id: str, step: str, at: str) -> str:
    told = tell(run_id, step)
    pass_gate(at)
    return told


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@sheet.flow()
def three(ctx: Any) -> list[str]:
    """A step, a step that stays until its gate opens, a step."""
    first = ctx.step.run("first", tell, ctx.run_id, "first")
    second = ctx.step.run("second", stay, ctx.run_id, "second", ctx.event.data.get("gate", "open"))
    return [first, second, ctx.step.run("third", tell, ctx.run_id, "third")]


@sheet.flow(acks_late=False)
def holds(ctx: Any) -> Any:
    """A step that stays until its gate opens; its message is acknowledged before."""
    return ctx.step.run("only", stay, ctx.run_id, "holds", ctx.event.data["gate"])


@sheet.flow(trigger=os.environ.get("WORKS_ASKED", "works/asked"))
def asked(ctx: Any) -> Any:
    """Started by an event."""
    return ctx.step.run("only", tell, ctx.run_id, "only")


@sheet.flow()
def quick(ctx: Any) -> int:
    """One short step of many runs."""
    return int(ctx.step.run("only", lambda: 1))


@sheet.flow()
def slow(ctx: Any) -> None:
    """A step of some length."""
    ctx.step.run("only", time.sleep, ctx.event.data["seconds"])


@sheet.flow()
def dies_after_a_step(ctx: Any) -> str:
    """Its process is killed once, right after the first step's commit."""
    first = ctx.step.run("first", tell, ctx.run_id, "first")
    if first_time(f"died.{ctx.run_id}"):
        die()
    return str(first)


def poisoned(run_id: str) -> None:
    witness(run_id, "poisoned")
    die()


def told_of_failure(ctx: Any) -> None:
    """`on_failure` of poison."""
    data = ctx.event.data
    ctx.step.run("tell", witness, "failed", data["run_id"], data["error"]["step_id"])


@sheet.flow(retries=2, backoff=Backoff(first="100ms"), on_failure=told_of_failure)
def poison(ctx: Any) -> None:
    """A step that kills its process each time."""
    ctx.step.run("before", tell, ctx.run_id, "before")
    ctx.step.run("poisoned", poisoned, ctx.run_id)


@sheet.flow()
def many(ctx: Any) -> int:
    """A hundred short steps."""
    for i in range(100):
        ctx.step.run(f"step {i}", brief, ctx.run_id, i)
    return 100


@sheet.flow(on_failure=told_of_failure)
def deadly(ctx: Any) -> None:
    """Kills its process each time, outside any step."""
    witness(ctx.run_id, "deadly")
    die()


def brief(run_id: str, i: int) -> None:
    witness(run_id, "step", i)
    time.sleep(0.05)


@sheet.flow()
def naps(ctx: Any) -> str:
    """A sleep that somebody must end."""
    ctx.step.run("first", tell, ctx.run_id, "first")
    ctx.step.sleep("nap", ctx.event.data.get("nap", "1s"))
    return str(ctx.step.run("last", tell, ctx.run_id, "last"))


app = sheet.worker_app()
