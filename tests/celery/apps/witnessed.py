"""A flow or a task for each kind of limit. They tell Redis, outside of broker and store, who is inside and who started.

Who is inside is told by run: one whose worker was killed stays inside until its step was done again."""

import os
import time
from collections.abc import Callable
from typing import Any

import redis

from celeryflows import Batch, Concurrency, Debounce, Priority, RateLimit, Singleton, Throttle
from celeryflows.signals import RunNews, run_cancelled
from tests.celery.apps.sheet import Sheet

# The same without any limit: to see that each is missed.
sheet, unlimited = Sheet("witnessed"), Sheet("witnessed")
USER, VALUE = "event.data.user", "event.data.value"
RATE, BURST, ALLOWED, BATCH = 100, 5, 20, 5
LIMITS: dict[str, dict[str, Any]] = {
    "keyed": {"concurrency": Concurrency(1, key=USER)},
    "wide": {"concurrency": 3},
    "two": {"concurrency": [Concurrency(3), Concurrency(1, key=USER)]},
    "shared": {"concurrency": Concurrency(2, key="'till'", scope="app")},
    "throttle": {"throttle": Throttle(RATE, "1s", burst=BURST)},
    "rate_limit": {"rate_limit": RateLimit(ALLOWED, "1s", key=USER)},
    "singleton": {"singleton": Singleton("skip", key=USER)},
    "idempotency": {"idempotency": VALUE},
    "debounce": {"debounce": Debounce("1s", key=VALUE)},
    "batch": {"batch": Batch(BATCH, "1s", key="event.data.no % 2 == 0")},
    "replacing": {"singleton": Singleton("cancel", key=USER)},
    "priority": {"concurrency": 1, "priority": Priority("event.data.head")},
    "debounced_batch": {"debounce": Debounce("1s", key=VALUE), "batch": Batch(BATCH, "1s")},
}
TASKS: dict[str, dict[str, Any]] = {
    "keyed_task": {"concurrency": Concurrency(1, key="kwargs.user")},
    "wide_task": {"concurrency": 3},
    "paced_task": {"throttle": Throttle(RATE, "1s", burst=BURST)},
    "single_task": {"singleton": Singleton("skip", key="kwargs.user")},
}
# What counts as inside, and how many may be.
PLACES: dict[str, dict[str, int]] = {
    "keyed": {"keyed {user}": 1},
    "wide": {"wide": 3},
    "two": {"two": 3, "two {user}": 1},
    "shared": {"till": 2},
    "singleton": {"singleton {user}": 1},
    "replacing": {"replacing {user}": 1},
    "keyed_task": {"keyed_task {user}": 1},
    "wide_task": {"wide_task": 3},
    "single_task": {"single_task {user}": 1},
}


def counter() -> Any:
    """The witness: its own database of the broker, by which nothing else is kept."""
    return redis.Redis.from_url(os.environ["COUNTER"], decode_responses=True)


def come(kind: str, run_id: str, events: list[dict[str, Any]]) -> None:
    """The run is inside, and has started with these events."""
    counts, first = counter(), events[0]
    for place in PLACES.get(kind, {}):
        name = place.format(**first)
        counts.sadd(f"in:{name}", run_id)
        if kind == "replacing" and len(counts.sdiff(f"in:{name}", "cancelled")) > 1:
            # Who cancelled it tells so after the commit.
            time.sleep(0.2)
        counts.zadd("most", {name: len(counts.sdiff(f"in:{name}", "cancelled"))}, gt=True)
    seconds, micros = counts.time()
    counts.zadd(f"started:{kind}:{first['user']}", {run_id: seconds + micros / 1e6}, nx=True)
    counts.sadd(f"runs:{kind}:{first['value']}", run_id)
    counts.zadd(f"newest:{kind}", {first["value"]: first["no"]}, gt=True)
    for event in events:
        counts.sadd(f"into:{kind}:{event['no']}", run_id)
    counts.zadd(f"sizes:{kind}", {run_id: len(events)})


def go(kind: str, run_id: str, first: dict[str, Any]) -> None:
    """The run is not inside any more."""
    for place in PLACES.get(kind, {}):
        counter().srem(f"in:{place.format(**first)}", run_id)


def at_work(kind: str, run_id: str, events: list[dict[str, Any]]) -> None:
    """Inside for a moment."""
    come(kind, run_id, events)
    time.sleep(0.005)
    go(kind, run_id, events[0])


def handler_of(kind: str, name: str) -> Callable[[Any], None]:
    """A step inside; every fifth run sleeps and does another. A singleton is one over its whole run."""

    def handler(ctx: Any) -> None:
        events = [event.data for event in ctx.events]
        if kind in ("singleton", "replacing"):
            ctx.step.run("come", come, kind, ctx.run_id, events)
            ctx.step.sleep("nap", "20ms")
            ctx.step.run("go", go, kind, ctx.run_id, events[0])
            return
        ctx.step.run("first", at_work, kind, ctx.run_id, events)
        if events[0]["no"] % 5 == 0:
            ctx.step.sleep("nap", "20ms")
            ctx.step.run("last", at_work, kind, ctx.run_id, events)

    handler.__name__ = name
    return handler


def task_of(kind: str) -> Callable[..., None]:
    """A plain task that is inside for a moment."""

    def task(self: Any, no: int, user: str, value: str, head: int) -> None:
        at_work(kind, self.request.id, [{"no": no, "user": user, "value": value}])

    task.__name__ = kind
    return task


@run_cancelled.connect
def no_more(sender: str, run: RunNews) -> None:
    """A run does not count as inside from its cancel on."""
    if "COUNTER" in os.environ and sender == "witnessed.replacing":
        counter().sadd("cancelled", run.run_id)


for _sheet in (sheet, unlimited):
    for _kind, _options in LIMITS.items():
        _its = _options if _sheet is sheet else {}
        _sheet.flow(trigger=f"seen/{_kind}", retries=20, **_its)(handler_of(_kind, _kind))
    # Another flow that shares the app's limit, for the same events.
    _its = LIMITS["shared"] if _sheet is sheet else {}
    _sheet.flow(trigger="seen/shared", retries=20, **_its)(handler_of("shared", "sharing"))
    for _kind, _options in TASKS.items():
        _its = _options if _sheet is sheet else {}
        _sheet.task(bind=True, **_its)(task_of(_kind))

app = (unlimited if os.environ.get("UNLIMITED") else sheet).worker_app()
