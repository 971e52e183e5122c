"""Ten-step flows beside a chain of ten tasks, one-step flows beside plain tasks, and the way from event to handler.

`python -m benchmarks.steps [sqlite|postgresql]`: same Redis, same worker (prefork), sides interleaved."""

import statistics
import sys
import time
from collections.abc import Callable
from types import ModuleType

from celery import chain

from benchmarks.bench import Side, bench_app, interleaved, load, rate, show, store_of

FLOWS, TASKS, LATENCIES, ROUNDS, LIST = 200, 600, 60, 5, 50
WANTED = {"sqlite": {"ten": 7.0, "one": 0.75}, "postgresql": {"ten": 4.5, "one": 0.6}}
START_WANTED = 1.3
STARTS = ("event to handler", "delay to task")


def is_idle(module: ModuleType) -> bool:
    """Nothing is queued or at work: two looks into small indexes, so that looking costs neither side."""
    with module.flows.runtime.store.connection() as connection:
        found = connection.execute(
            "SELECT EXISTS (SELECT 1 FROM flows_runs WHERE status = 'queued' AND sends >= 0) "
            "OR EXISTS (SELECT 1 FROM flows_runs WHERE status = 'running' AND sends >= 0)"
        )
    return not found[0][0]


def completed(module: ModuleType, flow: str) -> int:
    """Runs of the flow that are done."""
    with module.flows.runtime.store.connection() as connection:
        rows = connection.execute(
            "SELECT count(*) FROM flows_runs WHERE flow = :flow AND status = 'completed'", flow=flow
        )
    return int(rows[0][0])


def flow_rate(module: ModuleType, name: str, count: int) -> float:
    """Flows a second, sent as events in lists."""
    before = completed(module, f"bench.{name}")

    def start() -> None:
        for _ in range(count // LIST):
            module.flows.send([module.event(name) for _ in range(LIST)])

    found = rate(count, start, lambda: is_idle(module))
    assert completed(module, f"bench.{name}") - before == count
    return found


def chain_rate(module: ModuleType, count: int) -> float:
    """Chains of ten a second."""
    module.counter.delete("chains")

    def start() -> None:
        for _ in range(count):
            chain(*[module.link.si() for _ in range(9)], module.link.si(last=True)).apply_async()

    return rate(count, start, lambda: int(module.counter.get("chains") or 0) >= count)


def task_rate(module: ModuleType, count: int) -> float:
    """Plain tasks a second."""
    module.counter.delete("tasks")

    def start() -> None:
        for _ in range(count):
            module.counted.delay()

    return rate(count, start, lambda: int(module.counter.get("tasks") or 0) >= count)


def start_latencies(module: ModuleType) -> tuple[float, float]:
    """Milliseconds from the send to the handler's first line, p50, one at a time: an event's and a task's in turn."""
    ways: list[Callable[[], object]] = [lambda: module.flows.send(module.event("started")), module.started_task.delay]
    found: list[list[float]] = [[], []]
    for _ in range(LATENCIES):
        for way, figures in zip(ways, found, strict=True):
            at = time.time()
            way()
            began = float(module.counter.blpop(["started"], timeout=10)[1])
            figures.append((began - at) * 1000)
    return statistics.median(found[0]), statistics.median(found[1])


def main(kinds: list[str]) -> int:
    """Print every comparison; 1 when a wanted ratio was not met."""
    met = True
    for kind in kinds:
        with store_of(kind) as url, bench_app(url, "-c", "2") as module:
            print(f"== {kind}, prefork -c 2, {load()}")
            sides = interleaved(
                ROUNDS,
                flows_of_ten_steps=lambda m=module: flow_rate(m, "ten", FLOWS),
                chains_of_ten_tasks=lambda m=module: chain_rate(m, FLOWS // 4),
            )
            met &= show("ten steps", *sides.values(), WANTED[kind]["ten"], "a second")
            sides = interleaved(
                ROUNDS,
                flows_of_one_step=lambda m=module: flow_rate(m, "one", TASKS),
                plain_tasks=lambda m=module: task_rate(m, TASKS),
            )
            met &= show("one step", *sides.values(), WANTED[kind]["one"], "a second")
            start_latencies(module)
            rounds = [start_latencies(module) for _ in range(ROUNDS)]
            ours, theirs = (
                Side(name, figures) for name, figures in zip(STARTS, zip(*rounds, strict=True), strict=True)
            )
            met &= show("start, p50", ours, theirs, START_WANTED, "ms", at_most=True)
            print(load())
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:] or ["sqlite", "postgresql"]))
