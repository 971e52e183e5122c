"""The app whose way to a handler's first line is timed: a task and a flow, each alone on one queue.

Times are those of the monotonic clock, which all processes of a machine share."""

import json
import os
import time
from typing import Any

import redis
from celery import Celery
from celery.signals import task_prerun

from celeryflows import Event, Flows
from celeryflows.store.runs import Claim, Runs

app = Celery("bench-start", broker=os.environ["BENCH_BROKER"])
app.conf.update(flows_store_url=os.environ["BENCH_STORE"], worker_prefetch_multiplier=4)
flows = Flows(app)
witness = redis.Redis.from_url(os.environ["BENCH_BROKER"])
passed: dict[str, float] = {}


def pass_by(station: str) -> None:
    """It is reached now."""
    passed[station] = time.monotonic()


def tell() -> None:
    """What was passed on the way here, and this."""
    pass_by("first line")
    witness.rpush("told", json.dumps(passed))


@app.task(name="start.task", shared=False, ignore_result=True)
def task() -> None:
    """Tells."""
    tell()


@flows.flow(name="start.flow", trigger="start/asked")
def flow(ctx: Any) -> None:
    """Tells."""
    tell()


@task_prerun.connect(weak=False)
def begins(**_: Any) -> None:
    """In the pool's process."""
    passed.clear()
    pass_by("the task begins")


def timed_claim(runs: Runs, *args: Any, **options: Any) -> Claim | None:
    """A claim between two stations."""
    pass_by("claim asked")
    claim = claimed(runs, *args, **options)
    pass_by("claimed")
    return claim


claimed = Runs.claim
Runs.claim = timed_claim  # type: ignore[method-assign]


def call() -> None:
    """The task, by Celery alone."""
    task.delay()


def send() -> None:
    """The event."""
    flows.send(Event("start/asked"))
