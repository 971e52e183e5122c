"""Ten thousand sleeping runs: the memory that they cost the workers, and how late they wake at 500 a second. At 100 a
second, which the worker can keep up with, also how late their handlers go on.

`python -m benchmarks.sleepers [sqlite|postgresql]`"""

import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from types import ModuleType

from benchmarks.bench import Side, bench_app, finish, load, reached, store_of
from benchmarks.table import Bound, Row
from tests.waiting import eventually

MANY, FAST = 10_000, 500
FEW, CALM = 1_000, 100
STARTED_A_SECOND, LIST = 120, 500
LATE_WANTED = 1.0


def resident(parent: str) -> float:
    """MiB of resident memory of the worker's processes."""
    out = subprocess.run(["ps", "-eo", "rss,args"], capture_output=True, text=True, check=True).stdout
    return sum(int(line.split()[0]) for line in out.splitlines()[1:] if parent in line) / 1024


def asleep(module: ModuleType) -> int:
    """Runs that sleep."""
    with module.flows.runtime.store.connection() as connection:
        return int(connection.execute("SELECT count(*) FROM flows_runs WHERE status = 'suspended'")[0][0])


def measure(kinds: list[str]) -> list[Row]:
    """Print memory and lateness."""
    rows = []
    for kind in kinds:
        with store_of(kind) as url, bench_app(url, "-c", "2") as module:
            for runs, a_second in ((MANY, FAST), (FEW, CALM)):
                print(f"== {kind}, {runs:,} runs, {a_second} a second, prefork -c 2, {load()}")
                late = Side("late", [lateness_of(module, runs, a_second)])
                title = f"lateness of {runs:,} sleepers, {a_second} a second, at most, {kind}"
                rows.append(reached(title, late, Bound(LATE_WANTED, at_most=True), "s"))
    return rows


def lateness_of(module: ModuleType, runs: int, a_second: int) -> float:
    """Put the runs to sleep, then let them wake; seconds by which the last message was late."""
    module.counter.delete("woke")
    module.flows.send(module.event("sleeper", until=datetime.now(UTC).isoformat()))
    eventually(lambda: module.counter.llen("woke") == 1, within=20)
    before = resident("benchmarks.app worker")
    # Far enough that all are asleep first.
    first = time.time() + 5 + runs / STARTED_A_SECOND
    until = [first + i / a_second for i in range(runs)]
    for i in range(0, runs, LIST):
        part = until[i : i + LIST]
        module.flows.send([module.event("sleeper", until=_text(at)) for at in part])
    module.counter.delete("woke")
    eventually(lambda: asleep(module) >= runs or time.time() > first, within=5 + runs / STARTED_A_SECOND, every=0.5)
    sleeping, during = asleep(module), resident("benchmarks.app worker")
    eventually(lambda: module.counter.llen("woke") >= runs, within=runs / a_second + 240, every=0.2)
    woke = sorted(float(at) for at in module.counter.lrange("woke", 0, -1))
    handled = [at - due for at, due in zip(woke, until, strict=True)]
    sent = [at - due for at, due in zip(queued_at(module, first), until, strict=True)]
    print(f"  asleep at once: {sleeping:,}; worker memory {before:.0f} MiB before, {during:.0f} MiB while they sleep")
    print(f"  on their way again: {lateness(sent)}; wanted at most {LATE_WANTED} s")
    print(f"  in their handler: {lateness(handled)}, after Celery's own queue; {load()}")
    return max(sent)


def queued_at(module: ModuleType, since: float) -> list[float]:
    """When each run's message was sent, in seconds; those sent since then."""
    with module.flows.runtime.store.connection() as connection:
        rows = connection.execute(
            "SELECT sent_at FROM flows_runs WHERE flow = 'bench.sleeper' AND sent_at >= :since ORDER BY sent_at",
            since=int(since * 1e6),
        )
    return [row[0] / 1e6 for row in rows]


def lateness(late: list[float]) -> str:
    """Seconds behind the due time."""
    late = sorted(late)
    return f"p50 {statistics.median(late):.2f} s, p99 {late[int(len(late) * 0.99)]:.2f} s, max {late[-1]:.2f} s late"


def _text(at: float) -> str:
    return (datetime.fromtimestamp(0, UTC) + timedelta(seconds=at)).isoformat()


if __name__ == "__main__":
    raise SystemExit(finish(measure(sys.argv[1:] or ["sqlite", "postgresql"])))
