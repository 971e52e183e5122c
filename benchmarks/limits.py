"""One-step flows with a limit beside the same without: over 1,000 keys, and all on one key of limit 100.

`python -m benchmarks.limits [runs]`: PostgreSQL, prefork, sides interleaved, then with slow commits; and what admission
and release cost beside a backlog."""

import os
import random
import sys
import time
from types import ModuleType

from benchmarks.bench import bench_app, finish, interleaved, load, rate, show, store_of
from benchmarks.table import Bound, Row
from celeryflows import Event
from celeryflows.engine.passage import Passage
from celeryflows.flow_control.gates import Gate, GateBook, GateLimit
from celeryflows.store.database import Store

RUNS, ROUNDS, LIST, KEYS = 400, 5, 50, 1_000
WANTED = {"keyed": 0.7, "hot": 0.6}
SLOW_COMMIT = ("commit_delay = 1300", "commit_siblings = 0")
BACKLOGS, ASKED, AT_MOST = (1_000, 100_000), 400, 1.5


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


def limited_rate(module: ModuleType, name: str, runs: int) -> float:
    """Runs a second, sent as events in lists, of random keys."""
    before = completed(module, f"bench.{name}")

    def start() -> None:
        for _ in range(runs // LIST):
            module.flows.send([Event(f"bench/{name}", {"key": random.randrange(KEYS)}) for _ in range(LIST)])

    found = rate(runs, start, lambda: is_idle(module))
    assert completed(module, f"bench.{name}") - before == runs
    return found


def limited(url: str, runs: int, disk: str) -> list[Row]:
    """All three kinds in one run."""
    with bench_app(url, "-c", "2") as module:
        print(f"== postgresql, {disk}, prefork -c 2, {load()}")
        sides = interleaved(
            ROUNDS,
            one_step_keyed=lambda: limited_rate(module, "keyed", runs),
            one_step_hot=lambda: limited_rate(module, "hot", runs),
            one_step_free=lambda: limited_rate(module, "one", runs),
        )
        keyed, hot, free = sides.values()
        wanted = WANTED["keyed" if disk == "fast commits" else "hot"]
        rows = [
            show(f"one step, 1,000 keys of limit 2, {disk}", keyed, free, wanted, "a second"),
            show(f"one step, one key of limit 100, {disk}", hot, free, WANTED["hot"], "a second"),
        ]
        print(load())
        return rows


def slow_down(url: str) -> None:
    """Commits as on a disk of 1.3 ms."""
    store = Store(url)
    with store.engine.connect() as connection:
        for setting in SLOW_COMMIT:
            connection.exec_driver_sql(f"ALTER SYSTEM SET {setting}")
        connection.exec_driver_sql("SELECT pg_reload_conf()")
    store.dispose()


def backlog_cost(url: str, waiting: int) -> tuple[float, float]:
    """Microseconds of an admission to a full key and of a release, with so many waiting over 1,000 keys."""
    store = Store(url)
    limit = GateLimit("0" * 26, 1, "bench.backlog", "event.data.key", 1)
    book = GateBook({}, {limit.id: 1})
    gates = [Gate(f"1{limit.id}{waiting:08}{n:018}", limit, str(n)) for n in range(KEYS)]
    with store.begin() as tx:
        for gate in gates:
            tx.gates.know([{"key": gate.name, "level": 1, "limit": limit.id, "flow": "x", "value": gate.value}])
            tx.execute(
                "INSERT INTO flows_slots (gate, no, run_id, branch) VALUES (:gate, 1, :run, '')",
                gate=gate.name,
                run=f"holder {gate.name}",
            )
        for start in range(0, waiting, KEYS):
            rows = [(start + n, (f"{waiting} {start + n}", "")) for n in range(min(KEYS, waiting - start))]
            for gate, row in zip(gates, rows, strict=False):
                tx.gates.join(gate.name, [row])
    with store.engine.connect() as connection:
        connection.exec_driver_sql("VACUUM ANALYZE flows_queue")
    admit, release = 0.0, 0.0
    with store.connection() as connection:
        for n in range(ASKED):
            gate = gates[n * 7 % KEYS]
            began = time.perf_counter()
            with connection.transaction():
                passage = Passage(connection, book)
                passage.start((f"new {waiting} {n}", ""), [gate])
                passage.go()
            admit += time.perf_counter() - began
            began = time.perf_counter()
            with connection.transaction():
                connection.gates.share_unless_lowered(gate.name, 1)
                held = connection.execute("SELECT run_id FROM flows_slots WHERE gate = :g AND no = 1", g=gate.name)
                connection.gates.hand_on(gate.name, 1, (held[0][0], ""))
            release += time.perf_counter() - began
    store.dispose()
    return admit / ASKED * 1e6, release / ASKED * 1e6


def backlogs(url: str) -> list[Row]:
    """The cost at a long line beside that at a short one."""
    found = [backlog_cost(url, waiting) for waiting in BACKLOGS]
    rows = []
    for what, few, many in zip(("admission to a full key", "release"), *found, strict=True):
        cells = [
            f"{cost:,.0f} us with {waiting:,} waiting"
            for cost, waiting in zip((many, few), reversed(BACKLOGS), strict=True)
        ]
        rows.append(Row(what, *cells, many / few, Bound(AT_MOST, at_most=True)))
        print(f"{what}\n  {cells[1]}, {cells[0]}\n  ratio {many / few:.2f}")
    print(load())
    return rows


def measure(words: list[str]) -> list[Row]:
    """Print the comparisons."""
    runs = int(words[0]) if words and words[0].isdigit() else RUNS
    # Runs that are let in one by one cannot travel together: neither do those beside them.
    os.environ["BENCH_BUNDLE"] = "1"
    with store_of("postgresql") as url:
        rows = backlogs(url) + limited(url, runs, "fast commits")
    with store_of("postgresql") as url:
        slow_down(url)
        return rows + limited(url, runs, "commits of 1.3 ms")


if __name__ == "__main__":
    raise SystemExit(finish(measure(sys.argv[1:])))
