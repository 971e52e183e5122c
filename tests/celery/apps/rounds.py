"""A flow of every core kind, whose bodies name each of their executions: `celery -A tests.celery.apps.rounds`."""

import time
import uuid
from typing import Any

from celeryflows import Backoff
from tests.celery.apps.sheet import Sheet, witness

sheet = Sheet("rounds")


def execute(run_id: str, step: str) -> str:
    """Runs for a moment; its value names this execution of it."""
    name = uuid.uuid4().hex
    witness(run_id, step, name)
    time.sleep(0.02)
    return name


def stumble(ctx: Any) -> str:
    """Fails at first; inside a step `attempt` is the step's own."""
    if ctx.attempt < 1:
        raise ConnectionError("not yet")
    return execute(ctx.run_id, "stumble")


@sheet.flow(trigger="rounds/begun", retries=8, backoff=Backoff(first="200ms", factor=1.5))
def whole(ctx: Any) -> list[str]:
    """Steps, a sleep, a retry and a wait."""
    done = [ctx.step.run(f"step {i}", execute, ctx.run_id, f"step{i}") for i in range(3)]
    ctx.step.sleep("nap", "300ms")
    done.append(ctx.step.run("stumble", stumble, ctx))
    answer = ctx.step.wait_for_event(
        "answer", event="rounds/answered", match="data.number", timeout="5m", lookback="run"
    )
    done.append(ctx.step.run("last", execute, ctx.run_id, "last"))
    return [*done, answer.data["word"] if answer else "none"]


app = sheet.worker_app()
