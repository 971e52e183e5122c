"""A group of ten branches that do nothing beside a Celery chord of ten tasks that do nothing.

`python -m benchmarks.parallel [sqlite|postgresql]`: same Redis, same worker (prefork), sides interleaved."""

import os
import sys
from types import ModuleType

from celery import chord

from benchmarks.bench import bench_app, interleaved, load, rate, show, store_of
from benchmarks.steps import completed

GROUPS, CHORDS, ROUNDS, LIST = 150, 75, 5, 50
WANTED = 2.0


def is_idle(module: ModuleType) -> bool:
    """No run is open: looks into small indexes alone."""
    with module.flows.runtime.store.connection() as connection:
        found = connection.execute(
            "SELECT EXISTS (SELECT 1 FROM flows_runs WHERE status = 'queued' AND sends >= 0) "
            "OR EXISTS (SELECT 1 FROM flows_runs WHERE status = 'running' AND sends >= 0) "
            "OR EXISTS (SELECT 1 FROM flows_runs WHERE status = 'suspended' "
            "AND status NOT IN ('queued', 'running', 'completed'))"
        )
    return not found[0][0]


def group_rate(module: ModuleType) -> float:
    """Flows with a group of ten a second, sent as events in lists."""
    before = completed(module, "bench.group")

    def start() -> None:
        for _ in range(GROUPS // LIST):
            module.flows.send([module.event("group") for _ in range(LIST)])

    found = rate(GROUPS, start, lambda: is_idle(module))
    assert completed(module, "bench.group") - before == GROUPS
    return found


def chord_rate(module: ModuleType) -> float:
    """Chords of ten a second."""
    module.counter.delete("chords")

    def start() -> None:
        for _ in range(CHORDS):
            chord([module.member.s() for _ in range(10)])(module.joined.s())

    return rate(CHORDS, start, lambda: int(module.counter.get("chords") or 0) >= CHORDS)


def main(kinds: list[str]) -> int:
    """Print the comparison; 1 when the wanted ratio was not met."""
    met = True
    # A chord needs a result backend; both sides have it.
    os.environ["BENCH_RESULTS"] = "1"
    try:
        for kind in kinds:
            with store_of(kind) as url, bench_app(url, "-c", "2") as module:
                print(f"== {kind}, prefork -c 2, {load()}")
                sides = interleaved(
                    ROUNDS,
                    groups_of_ten_branches=lambda m=module: group_rate(m),
                    chords_of_ten_tasks=lambda m=module: chord_rate(m),
                )
                met &= show("ten branches", *sides.values(), WANTED, "a second")
                # It listens for the chords' results, until Redis is gone.
                module.app.backend.result_consumer.stop()
                print(load())
    finally:
        del os.environ["BENCH_RESULTS"]
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:] or ["sqlite", "postgresql"]))
