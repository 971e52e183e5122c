"""Plain tasks in an app with a Flows beside the same app without: what a call and what a task costs.

`python -m benchmarks.plain_tasks [tasks]`: SQLite, one Redis, two workers (prefork -c 1), sides interleaved."""

import importlib
import os
import sys
import time
from contextlib import ExitStack
from typing import Any

import redis

from benchmarks.bench import finish, interleaved, load, show, store_of, worker
from benchmarks.table import Row
from tests.servers import running_redis

TASKS, ROUNDS, WANTED = 1_500, 9, 0.97


def send_rate(app: Any, tasks: int) -> float:
    """Calls for a second of this process's CPU, to a queue that nobody serves."""
    task = app.tasks["plain.counted"]
    began = time.process_time()
    for _ in range(tasks):
        task.apply_async(queue="idle")
    return tasks / (time.process_time() - began)


def work_rate(app: Any, client: Any, side: str, tasks: int) -> float:
    """Tasks a second, from the first call until the last is counted."""
    client.delete(f"count:{side}")
    task = app.tasks["plain.counted"]
    began = time.perf_counter()
    for _ in range(tasks):
        task.delay()
    while int(client.get(f"count:{side}") or 0) < tasks:
        time.sleep(0.002)
    return tasks / (time.perf_counter() - began)


def measure(args: list[str]) -> list[Row]:
    """Print both ratios."""
    tasks = int(args[0]) if args and args[0].isdigit() else TASKS
    with store_of("sqlite") as url, running_redis() as server, ExitStack() as stack:
        os.environ |= {"BENCH_BROKER": server.url(0), "BENCH_STORE": url}
        module = importlib.import_module("benchmarks.plain_app")
        apps = {side: module.make(side) for side in ("with", "without")}
        module.app = apps["without"]
        client = stack.enter_context(redis.Redis.from_url(server.url(0)))
        print(f"== sqlite, prefork -c 1, {load()}")
        calls = interleaved(ROUNDS, **{side: lambda app=app: send_rate(app, tasks) for side, app in apps.items()})
        client.delete("idle")
        for number, side in enumerate(apps):
            os.environ["BENCH_SIDE"] = side
            stack.enter_context(worker("-c", "1", "-Q", side, "-n", side, of=module.__name__, beside=number))
        works = interleaved(
            ROUNDS,
            **{side: lambda app=app, side=side: work_rate(app, client, side, tasks) for side, app in apps.items()},
        )
        rows = [
            show("calls of a plain task, beside no Flows", *calls.values(), WANTED, "a second of CPU"),
            show("plain tasks, beside no Flows", *works.values(), WANTED, "a second"),
        ]
        print(load())
        apps["with"].flows.runtime.store.dispose()
    return rows


if __name__ == "__main__":
    raise SystemExit(finish(measure(sys.argv[1:])))
