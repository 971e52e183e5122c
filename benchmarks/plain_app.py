"""One app of plain tasks, with a Flows or without: `BENCH_FLOWS=1`. Each side has a queue of its own."""

import os

import redis
from celery import Celery

from celeryflows import Concurrency, Flows


def limited(key: str) -> str:
    """A task that is a run."""
    return key


def make(side: str) -> Celery:
    """The app of a side, "with" or "without" a Flows, and its tasks."""
    app = Celery(f"plain-{side}", broker=os.environ["BENCH_BROKER"], set_as_current=False)
    app.conf.update(flows_store_url=os.environ["BENCH_STORE"], task_default_queue=side, worker_prefetch_multiplier=4)
    counter = redis.Redis.from_url(os.environ["BENCH_BROKER"])

    @app.task(name="plain.counted", shared=False, ignore_result=True)
    def counted() -> None:
        counter.incr(f"count:{side}")

    if side == "with":
        flows = Flows(app)
        # Others of the app are runs: that must not weigh on those that are none.
        app.task(name="plain.limited", shared=False, concurrency=Concurrency(3))(limited)
        flows.on("plain/happened", "plain.counted")
    return app


app = make(os.environ["BENCH_SIDE"]) if "BENCH_SIDE" in os.environ else None
