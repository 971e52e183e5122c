"""Where the time goes between a send and the handler's first line: stations of an event and of `.delay()`.

`python -m benchmarks.start_time [sqlite|postgresql]`: one call at a time on one worker (prefork -c 2), 5 ms after the
one before had told."""

import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from types import ModuleType

from benchmarks.bench import load, store_of, worker
from benchmarks.table import columns
from tests.servers import running_redis

ROUNDS, CALLS, GAP, PATIENCE = 5, 200, 0.005, 60
STATIONS = ("message on its way", "sent", "the task begins", "claim asked", "claimed", "first line")
Way = dict[str, float]


def way_of(module: ModuleType, call: Callable[[], object]) -> Way:
    """Milliseconds from one call to each station that it passes. Raises TimeoutError."""
    time.sleep(GAP)
    module.passed.clear()
    began = time.monotonic()
    call()
    module.pass_by("sent")
    told = module.witness.blpop(["told"], timeout=PATIENCE)
    if told is None:
        raise TimeoutError(f"no handler told within {PATIENCE} s")
    passed = module.passed | json.loads(told[1])
    return {station: (at - began) * 1000 for station, at in passed.items()}


def ways(module: ModuleType) -> dict[str, list[Way]]:
    """Both ways in turn, after a round that does not count."""
    found: dict[str, list[Way]] = {".delay()": [], "event": []}
    for number in range(ROUNDS + 1):
        for name, call in ((".delay()", module.call), ("event", module.send)):
            taken = [way_of(module, call) for _ in range(CALLS)]
            found[name] += taken if number else []
    return found


def medians(taken: Sequence[Way]) -> list[str]:
    """The p50 of each station, '' for one that lies on another way."""
    return [f"{statistics.median(way[one] for way in taken):.2f}" if one in taken[0] else "" for one in STATIONS]


def watch(module: ModuleType) -> None:
    """The client tells when it gives the messages of an event away."""
    dispatcher = module.flows.runtime.dispatcher
    send_runs = dispatcher.send_runs

    def watched(*args: object) -> None:
        module.pass_by("message on its way")
        send_runs(*args)

    dispatcher.send_runs = watched


def main(kinds: list[str]) -> int:
    """Print the stations on each store."""
    for kind in kinds:
        with store_of(kind) as url, running_redis() as server:
            os.environ |= {"BENCH_BROKER": server.url(0), "BENCH_STORE": url}
            sys.modules.pop("benchmarks.start_app", None)
            module = importlib.import_module("benchmarks.start_app")
            module.app.finalize()
            watch(module)
            with worker("-c", "2", of=module.__name__):
                found = ways(module)
            module.flows.runtime.store.dispose()
        last = [statistics.median(way["first line"] for way in taken) for taken in found.values()]
        print(f"== {kind}, ms (p50) since the call, an event's {last[1] / last[0]:.2f} times the task's, {load()}")
        print(columns([("", *STATIONS), *((name, *medians(taken)) for name, taken in found.items())]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:] or ["sqlite", "postgresql"]))
