"""Where the time of a step goes: CPU of a flow by process and by room of the code, and the limits beside its rate.

`python -m benchmarks.step_time [sqlite|postgresql]`: flows of one step and of ten, on two pool processes."""

import dataclasses
import json
import os
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.bench import load
from benchmarks.peers import processes
from benchmarks.peers.crew import Crew
from benchmarks.peers.roster import PEERS
from benchmarks.peers.sampling import ROOMS
from benchmarks.peers.servers import Servers, employed, running_servers
from benchmarks.table import columns
from tests.servers import temporary_folder
from tests.waiting import eventually

FLOWS = {"one": 2_000, "ten": 1_000}
WARM = 100
ROLES = ("sender", "worker", "pool")
BARE = {"sqlite": "bare-sqlite", "postgresql": "bare"}
OTHER = "other threads"
COMMITS = {"one": 3, "ten": 12}

Spent = Mapping[tuple[str, str], float]


@contextmanager
def sampled(kind: str, servers: Servers) -> Iterator[tuple[Crew, Path]]:
    """celeryflows at work, its processes sampled into a folder."""
    with temporary_folder("samples") as folder:
        peer = dataclasses.replace(PEERS[kind], environment={"BENCH_SAMPLES": str(folder)})
        with employed(peer, servers) as crew, crew.awake():
            for work in FLOWS:
                crew.ask(work, WARM)
            yield crew, folder


def write_down(folder: Path) -> list[dict[str, Any]]:
    """What all processes found since they were asked before."""
    paths = list(folder.glob("*.json"))
    before = {path: path.stat().st_mtime_ns for path in paths}
    for path in paths:
        os.kill(int(path.stem), signal.SIGUSR2)
    eventually(lambda: all(path.stat().st_mtime_ns > before[path] for path in paths), within=20)
    return [json.loads(path.read_text()) for path in paths]


def spent_by(reports: list[dict[str, Any]], flows: int) -> Spent:
    """Milliseconds of CPU a flow, by role and room: a process' main thread is shared out by its samples."""
    found: dict[tuple[str, str], float] = defaultdict(float)
    for report in reports:
        role, samples = report["role"], report["found"]
        all_samples = sum(samples.values())
        for room, count in samples.items():
            found[role, room] += report["main"] * count / all_samples * 1000 / flows
        found[role, OTHER] += report["others"] * 1000 / flows
    return found


def measure(kind: str, work: str, crew: Crew, folder: Path, servers: Mapping[str, int]) -> None:
    """Print where the CPU of one kind of flow went, and its rate."""
    count = FLOWS[work]
    write_down(folder)
    before = {name: processes.cpu([pid]) for name, pid in servers.items()}
    began = time.perf_counter()
    rate = crew.ask(work, count)[0]
    took = time.perf_counter() - began
    spent = spent_by(write_down(folder), count)
    rooms = [*ROOMS, "Python", OTHER]
    lines = [("ms of CPU a flow", *ROLES, "all")]
    for room in rooms:
        cells = [spent.get((role, room), 0.0) for role in ROLES]
        lines.append((room, *(f"{cell:.2f}" for cell in cells), f"{sum(cells):.2f}"))
    sums = [sum(spent.get((role, room), 0.0) for room in rooms) for role in ROLES]
    lines.append(("together", *(f"{cell:.2f}" for cell in sums), f"{sum(sums):.2f}"))
    served = {name: (processes.cpu([pid]) - before[name]) * 1000 / count for name, pid in servers.items()}
    lines += [(name, "", "", "", f"{cost:.2f}") for name, cost in served.items()]
    busy = (sum(sums) + sum(served.values())) * count / 1000 / took
    print(f"\n{kind}, {work}: {rate:,.0f} flows a second, {busy:.2f} of {os.cpu_count()} cores busy; {load()}")
    print(columns(lines))


def limits(kind: str, servers: Servers) -> None:
    """Print what the driver and Celery do alone."""
    with employed(PEERS[BARE[kind]], servers) as bare:
        for work, commits in COMMITS.items():
            bare.ask(work, WARM)
            found = bare.ask(work, FLOWS[work])[0]
            print(f"{kind}: the bare driver does {found * commits:,.0f} commits a second: {found:,.0f} times {commits}")
    with employed(PEERS["celery"], servers) as celery, celery.awake():
        celery.ask("one", WARM)
        before, count = celery.cpu(), FLOWS["one"]
        found = celery.ask("one", count)[0]
        cost = (celery.cpu() - before) * 1000 / count
        print(f"Celery alone does {found:,.0f} tasks a second; which cost caller and worker {cost:.2f} ms of CPU each")


def main(kinds: list[str]) -> int:
    """Print all of it."""
    for kind in kinds:
        with running_servers() as servers:
            watched = {"Redis": servers.redis.server.pid}
            if kind == "postgresql":
                watched["PostgreSQL"] = servers.postgres.server.pid
            with sampled(kind, servers) as (crew, folder):
                for work in FLOWS:
                    measure(kind, work, crew, folder, watched)
            limits(kind, servers)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:] or ["sqlite", "postgresql"]))
