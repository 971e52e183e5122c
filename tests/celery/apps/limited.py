"""Limited flows at work: each look at a counter in Redis, taken inside a step, is a witness of who is inside."""

import os
import time
from typing import Any

import redis

from celeryflows import Concurrency, Throttle
from tests.celery.apps.sheet import Sheet

sheet = Sheet("limited")
LIMIT, OF_KEY = 3, 1


def counter() -> Any:
    """The witness: its own database of the broker, by which nothing else is kept."""
    return redis.Redis.from_url(os.environ["COUNTER"])


def inside(name: str, seconds: float) -> int:
    """Be inside for a while; how many were, this one included. One who is killed inside leaves its place within 10 s.

    Each is a member with its own end: a count alone would not know of the dead."""
    counts, me = counter(), f"{os.getpid()}:{time.monotonic_ns()}"
    now = time.time()
    with counts.pipeline() as pipe:
        pipe.zadd(name, {me: now})
        pipe.zcard(name)
        found = pipe.execute()[1]
    counts.zadd(f"most:{name}", {"most": found}, gt=True)
    time.sleep(seconds)
    counts.zrem(name, me)
    return int(found)


@sheet.flow(
    trigger="limited/ordered",
    concurrency=[Concurrency(LIMIT), Concurrency(OF_KEY, key="event.data.user")],
    retries=20,
)
def ship(ctx: Any) -> int:
    """One step inside both limits, a sleep outside of them, and one more."""
    user = ctx.event.data["user"]
    ctx.step.run("first", lambda: inside(f"user {user}", 0.005) + inside("all", 0.005))
    if ctx.event.data["no"] % 5 == 0:
        ctx.step.sleep("nap", "50ms")
    return ctx.step.run("last", lambda: inside(f"user {user}", 0.005) + inside("all", 0.005))


@sheet.flow(trigger="limited/paced", throttle=Throttle(4, "2s"))
def paced(ctx: Any) -> None:
    """Started at an even rate."""
    ctx.step.run("note", lambda: counter().rpush("paced", time.time()) and None)


app = sheet.worker_app()
