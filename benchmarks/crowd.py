"""100,000 runs that sleep and as many that wait: what they cost while nothing is due, and what happens when half of the
sleepers wake at once. `python -m benchmarks.crowd [idle] [storm] [sqlite|postgresql] [RUNS]`"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import ModuleType

from benchmarks.bench import bench_app, load, store_of, verdict
from benchmarks.kept import copy_run
from celeryflows.store.database import Store
from tests.waiting import eventually

RUNS, MINUTE, STILL, PATIENCE = 100_000, 60.0, 10.0, 1800.0
MOST_CONNECTIONS = 12
OF_WORKER = "benchmarks.app worker"
TICKS = os.sysconf("SC_CLK_TCK")


def processes(words: str) -> list[int]:
    """The ids of processes with these words in their command."""
    out = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [int(line.split()[0]) for line in out.splitlines()[1:] if words in line and "ps -eo" not in line]


def cpu(pids: list[int]) -> float:
    """Seconds of CPU that processes have used."""
    used = 0.0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        used += (int(fields[11]) + int(fields[12])) / TICKS
    return used


def of_server(url: str) -> list[int]:
    """The processes of the database server, its connections among them; none of a file."""
    store = Store(url)
    if store.dialect.name != "postgresql":
        return []
    with store.engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()").fetchall()
    store.dispose()
    return [row[0] for row in rows]


@dataclass
class Watch:
    """What is seen from outside while the storm lasts."""

    connections: int = 0
    silence: float = 0.0
    late: list[float] = field(default_factory=list)


def ask(module: ModuleType, sql: str) -> int:
    """A number of the store."""
    with module.flows.runtime.store.connection() as connection:
        return int(connection.execute(sql)[0][0] or 0)


@contextmanager
def watched(module: ModuleType) -> Iterator[Watch]:
    """Look several times a second: at the server's connections, and at how old the worker's last beat is."""
    watch, ended = Watch(), threading.Event()
    postgres = module.flows.runtime.store.dialect.name == "postgresql"

    def look() -> None:
        while not ended.wait(0.2):
            if postgres:
                open_now = ask(
                    module,
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                    "AND application_name = 'celeryflows'",
                )
                watch.connections = max(watch.connections, open_now)
            beat = ask(module, "SELECT max(beat_at) FROM flows_workers")
            watch.silence = max(watch.silence, time.time() - beat / 1e6)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield watch
    finally:
        ended.set()
        thread.join()


def crowd(module: ModuleType, runs: int) -> None:
    """Runs that sleep for a day, and runs that wait for a day, copied from one of each."""
    store = module.flows.runtime.store
    for name, data in (("sleeper", {"until": until()}), ("waiter", {"key": "one"})):
        module.flows.send(module.event(name, **data))
        flow = f"bench.{name}"
        eventually(lambda flow=flow: module.flows.runs(flow=flow, status="suspended"), within=20)  # type: ignore[misc]
        (run,) = module.flows.runs(flow=flow, status="suspended")
        copy_run(store, run.id, runs, "0S" if name == "sleeper" else "0W", {"hash": "n"})


def until() -> str:
    """A moment that is far away."""
    return (datetime.now(UTC) + timedelta(days=30)).isoformat()


def a_minute(url: str) -> tuple[float, float]:
    """Seconds of CPU of the worker and of the database in a quiet minute."""
    time.sleep(STILL)
    workers, server = processes(OF_WORKER), of_server(url)
    before = cpu(workers), cpu(server)
    time.sleep(MINUTE)
    return cpu(workers) - before[0], cpu(server) - before[1]


def storm(module: ModuleType, runs: int) -> bool:
    """So many wake at one moment; True when the connections stay bounded."""
    module.counter.delete("woke", "started")
    with module.flows.runtime.store.begin() as tx:
        ids = f"BETWEEN '0S' AND '0S{runs - 1:024}'"
        # When the sleep is over stands in its step, too.
        tx.execute(f"UPDATE flows_steps SET due_at = {{now}} WHERE run_id {ids}")
        tx.execute(f"UPDATE flows_runs SET wake_at = {{now}} WHERE id {ids}")
    began = time.perf_counter()
    due = "SELECT count(*) FROM flows_runs WHERE status = 'suspended' AND wake_at <= {now}"
    woken = asked = 0.0
    with watched(module) as watch:
        while module.counter.llen("woke") < runs:
            if not woken and not ask(module, due):
                woken = time.perf_counter() - began
            if not asked:
                asked = time.time()
                module.flows.send(module.event("started"))
            elif module.counter.llen("started"):
                watch.late.append(float(module.counter.lpop("started")) - asked)
                asked = 0.0
            if time.perf_counter() - began > PATIENCE:
                raise SystemExit(f"{module.counter.llen('woke'):,} of {runs:,} came through in {PATIENCE:.0f} s")
            time.sleep(0.5)
    took = time.perf_counter() - began
    print(f"  {runs:,} woke at once: on their way after {woken:.0f} s, all through their handlers after {took:.0f} s")
    late = f"began after {max(watch.late):.1f} s at most" if watch.late else "stood behind them"
    print(f"  an event sent meanwhile, to the same queue, {late}; the worker's oldest beat was {watch.silence:.1f} s")
    if not watch.connections:
        return True
    bounded = watch.connections <= MOST_CONNECTIONS
    print(
        f"  connections of worker and sender at most {watch.connections}, wanted {MOST_CONNECTIONS}: "
        f"{verdict(met=bounded)}"
    )
    return bounded


def main(words: list[str]) -> int:
    """Print both; 1 when the storm took more connections than wanted."""
    runs = next((int(word) for word in words if word.isdigit()), RUNS)
    kinds = [word for word in words if word in ("sqlite", "postgresql")] or ["sqlite", "postgresql"]
    parts = [word for word in words if word in ("idle", "storm")] or ["idle", "storm"]
    met = True
    for kind in kinds:
        with store_of(kind) as url, bench_app(url, "-c", "2") as module:
            print(f"== {kind}, prefork -c 2, {load()}", flush=True)
            alone = a_minute(url) if "idle" in parts else None
            crowd(module, runs)
            if alone is not None:
                for what, used in (("nobody", alone), (f"{runs:,} asleep and {runs:,} waiting", a_minute(url))):
                    print(f"  CPU of a minute, {what}: worker {used[0]:.2f} s, database {used[1]:.2f} s", flush=True)
            if "storm" in parts:
                met &= storm(module, runs // 2)
            print(load())
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
