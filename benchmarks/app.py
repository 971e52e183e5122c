"""The app under measurement: flows that do nothing, under limits, asleep or waiting."""

import os
import time

import redis
from celery import Celery

from celeryflows import Concurrency, Event, Flows

app = Celery("bench", broker=os.environ["BENCH_BROKER"])
app.conf.flows_store_url = os.environ["BENCH_STORE"]
app.conf.worker_prefetch_multiplier = 4
app.conf.flows_max_bundle = int(os.environ.get("BENCH_BUNDLE", "8"))
flows = Flows(app)
counter = redis.Redis.from_url(os.environ["BENCH_BROKER"])


def noop() -> int:
    return 1


@flows.flow(name="bench.one", trigger="bench/one")
def one(ctx):
    """One step that does nothing."""
    ctx.step.run("step", noop)


@flows.flow(name="bench.keyed", trigger="bench/keyed", concurrency=Concurrency(2, key="event.data.key"))
def keyed(ctx):
    """One step that does nothing, two at once for each key."""
    ctx.step.run("step", noop)


@flows.flow(name="bench.hot", trigger="bench/hot", concurrency=Concurrency(100))
def hot(ctx):
    """One step that does nothing, a hundred at once."""
    ctx.step.run("step", noop)


@flows.flow(name="bench.sleeper", trigger="bench/sleeper")
def sleeper(ctx):
    """Sleeps until the moment in its event, then tells when it woke."""
    ctx.step.sleep_until("until", ctx.event.data["until"])
    counter.rpush("woke", time.time())


@flows.flow(name="bench.waiter", trigger="bench/waiter")
def waiter(ctx):
    """Waits for an event with the value that its own has."""
    ctx.step.wait_for_event("answer", event="bench/answer", match="data.key", timeout="365 days")


@flows.flow(name="bench.started", trigger="bench/started")
def started(ctx):
    """Tells when its handler began."""
    counter.rpush("started", time.time())


def event(name: str, **data: object) -> Event:
    """An event of the benchmark."""
    return Event(f"bench/{name}", data)
