"""The app under measurement: flows and plain tasks that do nothing, on the same broker and pool."""

import os
import time
from functools import partial

import redis
from celery import Celery

from celeryflows import Concurrency, Event, Flows

app = Celery("bench", broker=os.environ["BENCH_BROKER"])
app.conf.flows_store_url = os.environ["BENCH_STORE"]
app.conf.worker_prefetch_multiplier = 4
if os.environ.get("BENCH_RESULTS"):
    app.conf.result_backend = os.environ["BENCH_BROKER"]
flows = Flows(app)
counter = redis.Redis.from_url(os.environ["BENCH_BROKER"])


def noop() -> int:
    return 1


@flows.flow(name="bench.ten", trigger="bench/ten")
def ten(ctx):
    """Ten steps that do nothing."""
    for i in range(10):
        ctx.step.run(f"step {i}", noop)


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


@flows.flow(name="bench.group", trigger="bench/group")
def group(ctx):
    """Ten branches that do nothing, each in a step."""
    ctx.group.parallel([partial(ctx.step.run, "step", noop)] * 10)


@flows.flow(name="bench.started", trigger="bench/started")
def started(ctx):
    """Tells when its handler began."""
    counter.rpush("started", time.time())


@flows.flow(name="bench.sleeper", trigger="bench/sleeper")
def sleeper(ctx):
    """Sleeps until the moment in its event, then tells when it woke."""
    ctx.step.sleep_until("until", ctx.event.data["until"])
    counter.rpush("woke", time.time())


@app.task(name="bench.member")
def member():
    """One of a chord of ten."""
    return noop()


@app.task(name="bench.joined", ignore_result=True)
def joined(values):
    """What a chord calls in the end."""
    counter.incr("chords")


@app.task(name="bench.link")
def link(last=False):
    """One of a chain of ten."""
    if last:
        counter.incr("chains")


@app.task(name="bench.plain")
def plain():
    """A task that does nothing."""


@app.task(name="bench.counted")
def counted():
    """A task that does nothing and is counted."""
    counter.incr("tasks")


@app.task(name="bench.started_task")
def started_task():
    """Tells when it began."""
    counter.rpush("started", time.time())


def event(name: str, **data: object) -> Event:
    """An event of the benchmark."""
    return Event(f"bench/{name}", data)
