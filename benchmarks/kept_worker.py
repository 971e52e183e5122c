"""One-step flows a second of a worker whose store has kept many runs, beside one whose store has kept few.

`python -m benchmarks.kept_worker [sqlite|postgresql] [RUNS]`: both workers are there, and have work in turn."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from types import ModuleType

from benchmarks.bench import bench_app, finish, interleaved, load, rate, show
from benchmarks.counted import get_counted
from benchmarks.kept import keep_ended
from benchmarks.limits import is_idle
from benchmarks.scale import stores
from benchmarks.table import Row
from celeryflows.engine.paces import WORTH
from celeryflows.store.database import Store

FEW, MANY, WANTED = 1_000, 1_000_000, 0.9
RUNS, LIST, ROUNDS = 1_000, 50, 9


def one_step_rate(module: ModuleType) -> float:
    """Runs a second, sent as events in lists."""

    def start() -> None:
        for _ in range(RUNS // LIST):
            module.flows.send([module.event("one")] * LIST)

    return rate(RUNS, start, lambda: is_idle(module))


def compare(kind: str, urls: Sequence[str], many: int) -> Row:
    """A store with few runs and one with many, filled already."""
    with ExitStack() as stack:
        few, full = (stack.enter_context(bench_app(url, "-c", "2")) for url in urls)
        for module in (few, full):
            get_counted(module.flows, "bench.one", [module.event("one")] * 2 * WORTH)
        print(f"== {kind}, prefork -c 2, {load()}", flush=True)
        sides = interleaved(ROUNDS, many=lambda: one_step_rate(full), few=lambda: one_step_rate(few))
        title = f"one-step flows with {many:,} runs kept, beside {FEW:,}, {kind}"
        row = show(title, sides["many"], sides["few"], WANTED, "a second")
        print(load())
        return row


def main(words: list[str]) -> int:
    """Print the comparison; 1 when it is not as wanted."""
    many = next((int(word) for word in words if word.isdigit()), MANY)
    rows = []
    for kind in [word for word in words if not word.isdigit()] or ["sqlite", "postgresql"]:
        with stores(kind, 2) as urls:
            for url, count in zip(urls, (FEW, many), strict=True):
                store = Store(url)
                keep_ended(store, count)
                store.dispose()
            rows.append(compare(kind, urls, many))
    return finish(rows)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
