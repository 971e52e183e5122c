"""Celery alone: plain tasks, chains of ten and chords of ten, without celeryflows in the process.

Only a chord's members keep their results, since a chord needs them."""

import time
from datetime import UTC, datetime

import redis
from celery import Celery, chain, chord

from benchmarks.peers import agent

app = Celery("bench", broker=agent.BROKER, backend=agent.BROKER)
app.conf.update(worker_prefetch_multiplier=4, task_ignore_result=True)
counter = redis.Redis.from_url(agent.BROKER)


@app.task(name="bench.one")
def one() -> None:
    """A task that does nothing and is counted."""
    counter.incr("done")


@app.task(name="bench.link")
def link() -> None:
    """One of a chain of ten."""


@app.task(name="bench.member", ignore_result=False)
def member() -> int:
    """One of a chord of ten."""
    return agent.noop()


@app.task(name="bench.joined")
def joined(values: list[int]) -> None:
    """What a chord calls in the end."""
    counter.incr("done")


@app.task(name="bench.tell")
def tell() -> None:
    """Tells that it runs."""
    agent.tell()


@app.task(name="bench.never")
def never() -> None:
    """Is due in an hour."""


def call_one() -> None:
    """A plain task."""
    one.delay()


def call_ten() -> None:
    """A chain of ten."""
    chain(*[link.si() for _ in range(9)], one.si()).apply_async()


def call_parallel() -> None:
    """A chord of ten."""
    chord([member.s() for _ in range(10)])(joined.s())


def tell_at(moment: float) -> None:
    """Celery's way to sleep: a message that the worker holds."""
    tell.apply_async(eta=datetime.fromtimestamp(moment, UTC))


def rate(call) -> agent.Work:
    """Calls a second, until the last is counted."""

    def start(count: int) -> None:
        counter.delete("done")
        for _ in range(count):
            call()

    return lambda count: agent.rate(count, start, lambda: int(counter.get("done") or 0) >= count)


def idle(count: int) -> list[float]:
    """Messages due in an hour: all are held by the worker when none is left in the queue."""
    began = time.perf_counter()
    for _ in range(count):
        never.apply_async(countdown=3600)
    agent.until(lambda: counter.hlen("unacked") >= count, every=0.05)
    return [count / (time.perf_counter() - began)]


def works() -> dict[str, agent.Work]:
    """What can be asked for. Celery waits for nothing but the time."""
    witness = agent.Witness()
    return {
        "one": rate(call_one),
        "ten": rate(call_ten),
        "parallel": rate(call_parallel),
        "start": lambda count: agent.start_latencies(witness, count, tell.delay),
        "sleep": lambda count: agent.sleep_lateness(witness, count, tell_at),
        "idle": idle,
    }


def work() -> None:
    """A worker of two pool processes."""
    app.worker_main(agent.CELERY_WORKER)


if __name__ == "__main__":
    agent.main(lambda: None, work, works)
