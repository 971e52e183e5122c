"""How fast each page answers with few runs and with many, on PostgreSQL: `python -m benchmarks.dashboard [RUNS]`.

Rows are written as the engine would have; each page is asked for as a browser does, through the whole app."""

import gc
import json
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from statistics import quantiles
from typing import Any

import psycopg
from celery import Celery
from flask.testing import FlaskClient

from celeryflows import Flows
from celeryflows.ids import seeded_ids
from celeryflows.scheduler.figures import Counter
from celeryflows.settings.doors import RATES
from celeryflows.store.database import Store
from celeryflows.store.upgrade import upgrade
from flask_dashboard import create_app
from tests.servers import running_postgres

FEW, MANY = 10_000, 1_000_000
STEPS, LONG = 5, (1_000, 10_000)
FLOWS = 20
ASKED = 60
WANTED_MS, WANTED_RATIO = 100.0, 1.5
# Runs come evenly over this time, the newest a moment ago.
SPAN_SECONDS = 24 * 3600
ERROR = json.dumps(
    {"name": "CardDeclined", "message": "order 7: declined", "stack": "Traceback\n" * 12, "step_id": "pay"}
)
OUTPUT = json.dumps({"total": 42, "lines": [{"sku": f"s{i}", "pieces": i} for i in range(8)]})
DATA = json.dumps({"user_id": "u7", "email": "ann@example.com", "lines": [{"sku": "mug", "pieces": 2}] * 3})


def status_of(n: int, count: int) -> str:
    """Nearly all have ended well; the newest ones are under way."""
    if count - n <= 200:
        return ("running", "queued", "suspended")[n % 3]
    kinds = {5: "cancelled", 6: "skipped", 7: "suspended"}
    kind = n * 7919 // FLOWS % 50
    return "failed" if kind < 5 else kinds.get(kind, "completed")


RUN_COLUMNS = (
    "id, flow, status, event_id, event_name, turn, created_at, started_at, ended_at, sent_at, wake_at, output, error"
)


def long_run(ids: list[str], steps: int) -> str:
    """The id of the run of so many steps."""
    return f"{ids[-1][:19]}{steps:06}L"


def fill(url: str, count: int) -> list[str]:
    """Write runs with an event and steps each; some ids of them, the newest last."""
    now = time.time_ns() // 1000
    moments = [now - SPAN_SECONDS * 1_000_000 * (count - n) // count for n in range(count)]
    ids = [next(seeded_ids(at // 1000, f"{n}".encode())) for n, at in enumerate(moments)]
    with psycopg.connect(url.replace("postgresql+psycopg", "postgresql"), autocommit=True) as connection:
        _copy(connection, "flows_events (id, name, data, ts, stored_at, arrived_at)", _events(ids, moments))
        _copy(connection, f"flows_runs ({RUN_COLUMNS})", _runs(ids, moments))
        columns = "run_id, key, kind, state, attempts, value, turn, began, ended_at, took"
        _copy(connection, f"flows_steps ({columns})", _steps(ids, moments))
        long, last = [long_run(ids, steps) for steps in LONG], [moments[-1]] * len(LONG)
        _copy(connection, "flows_events (id, name, data, ts, stored_at, arrived_at)", _events(long, last))
        _copy(connection, f"flows_runs ({RUN_COLUMNS})", _runs(long, last, "completed"))
        for steps in LONG:
            _copy(connection, f"flows_steps ({columns})", _steps([long_run(ids, steps)], moments[-1:], steps))
        connection.execute("VACUUM ANALYZE")
    return [*ids[:: max(1, count // 50)], ids[-1]]


def _copy(connection: Any, into: str, rows: Iterator[tuple[Any, ...]]) -> None:
    with connection.cursor() as cursor, cursor.copy(f"COPY {into} FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def name_of(n: int) -> str:
    """One event in a hundred is of a rare name."""
    return "order/rare" if n % 100 == 50 else f"order/kind.{n % FLOWS}"


def _events(ids: list[str], moments: list[int]) -> Iterator[tuple[Any, ...]]:
    for n, (id, at) in enumerate(zip(ids, moments, strict=True)):
        yield f"{id[:-1]}E", name_of(n), DATA, at, at, at


def _runs(ids: list[str], moments: list[int], all_are: str = "") -> Iterator[tuple[Any, ...]]:
    for n, (id, at) in enumerate(zip(ids, moments, strict=True)):
        status = all_are or status_of(n, len(ids))
        started = None if status in ("queued", "skipped") else at + 5_000
        ended = at + 5_000 + n % 977 * 1_000 if status in ("completed", "failed", "cancelled", "skipped") else None
        output, error = OUTPUT if status == "completed" else None, ERROR if status == "failed" else None
        wake = at + 7 * 86_400_000_000 if status == "suspended" else None
        yield (
            id,
            f"shop.flow{n % FLOWS}",
            status,
            f"{id[:-1]}E",
            name_of(n),
            1,
            at,
            started,
            ended,
            at,
            wake,
            output,
            error,
        )


def _steps(ids: list[str], moments: list[int], steps: int = STEPS) -> Iterator[tuple[Any, ...]]:
    for id, at in zip(ids, moments, strict=True):
        for step in range(steps):
            began = at + 5_000 + step * 9_000
            yield id, f"step {step}", "run", "done", 1, OUTPUT, 1, began, began + 8_000, 7_500


def pages(ids: list[str]) -> dict[str, Callable[[int], str]]:
    """Every page by its name: the address for the nth time that it is asked."""
    condition = "output.total%20%3E%2041"
    return {
        "runs": lambda n: "/runs",
        "runs, live part": lambda n: "/runs?part=live",
        "runs, an older page": lambda n: f"/runs?cursor={ids[n % len(ids)]}",
        "runs, failed": lambda n: "/runs?status=failed",
        "runs, running": lambda n: "/runs?status=running",
        "runs, queued": lambda n: "/runs?status=queued",
        "runs, completed, one flow": lambda n: f"/runs?status=completed&flow=shop.flow{n % FLOWS}",
        "runs, failed, one flow": lambda n: f"/runs?status=failed&flow=shop.flow{n % FLOWS}",
        "runs, last hour": lambda n: "/runs?range=1h",
        "runs, before a moment": lambda n: f"/runs?before={long_ago()}",
        "runs, an event's name": lambda n: f"/runs?event=order/kind.{n % FLOWS}",
        "runs, a rare event's name": lambda n: "/runs?event=order/rare",
        "runs, a condition": lambda n: f"/runs?if={condition}",
        "a run": lambda n: f"/runs/{ids[n % len(ids)]}",
        "a run's step": lambda n: f"/runs/{ids[n % len(ids)]}?step=step+2&part=live",
        "a run of 1,000 steps": lambda n: f"/runs/{long_run(ids, 1_000)}",
        "a run of 1,000 steps, live": lambda n: f"/runs/{long_run(ids, 1_000)}?step=step+{n * 16}&part=live",
        "a run of 10,000 steps": lambda n: f"/runs/{long_run(ids, 10_000)}",
        "events": lambda n: "/events",
        "events, a name": lambda n: f"/events?name=order/kind.{n % FLOWS}",
        "events, a rare name": lambda n: "/events?name=order/rare",
        "an event": lambda n: f"/events/{ids[n % len(ids)][:-1]}E",
        "flows": lambda n: "/flows",
        "a flow": lambda n: f"/flows/shop.flow{n % FLOWS}",
        "a flow, 30 days": lambda n: f"/flows/shop.flow{n % FLOWS}?range=30d",
        "failures": lambda n: "/failures",
        "metrics": lambda n: "/figures",
        "limits": lambda n: "/limits",
        "workers": lambda n: "/workers",
        "replays": lambda n: "/replays",
        "send event": lambda n: "/send",
    }


def long_ago() -> str:
    """Half of the runs were made before."""
    return (datetime.now(UTC) - timedelta(seconds=SPAN_SECONDS / 2)).isoformat().replace("+00:00", "Z")


def shop(url: str) -> Flows:
    """An app with as many flows as the rows are of."""
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.flows_store_url = url
    # One reader asks for more pages a minute than people may.
    app.conf.flows_rates = dict.fromkeys(RATES, "100000/second")
    flows = Flows(app)
    for n in range(FLOWS):
        flows.flow(lambda ctx: None, name=f"shop.flow{n}", trigger=f"order/kind.{n}")
    return flows


def measure(client: FlaskClient, address: Callable[[int], str]) -> tuple[float, float]:
    """p50 and p95 of a page in milliseconds."""
    took = []
    for n in range(ASKED + 5):
        began = time.perf_counter()
        answer = client.get(address(n))
        took.append((time.perf_counter() - began) * 1000)
        assert answer.status_code == 200, (answer.status_code, address(n))
    cuts = quantiles(took[5:], n=100)
    return cuts[49], cuts[94]


def measured(postgres: Any, count: int) -> dict[str, tuple[float, float]]:
    """All pages over a store with so many runs."""
    name = postgres.create_database()
    url = postgres.url(name)
    store = Store(url)
    upgrade(store)
    began = time.perf_counter()
    ids = fill(url, count)
    flows = shop(url)
    counter = Counter()
    while counter.piece(flows.runtime):
        pass
    counter.sample(flows.runtime)
    print(
        f"{count:,} runs, {count * STEPS:,} steps written and counted in {time.perf_counter() - began:.0f} s",
        flush=True,
    )
    client = create_app(flows).test_client()
    # As `flows dashboard` does.
    gc.collect()
    gc.freeze()
    found = {page: measure(client, address) for page, address in pages(ids).items()}
    gc.unfreeze()
    flows.runtime.store.dispose()
    store.dispose()
    postgres.drop_database(name)
    return found


def main(words: list[str]) -> int:
    """Print each page's times and their ratio; 1 when one is past what is wanted."""
    many = int(next(islice((word for word in words if word.isdigit()), 1), MANY))
    with running_postgres() as postgres:
        few_times, many_times = measured(postgres, FEW), measured(postgres, many)
    worst = 0
    print(f"{'page':<28}{f'{FEW:,}':>22}{f'{many:,}':>22}{'p50 ratio':>11}   (p50 / p95, ms)")
    for page, (p50, p95) in many_times.items():
        few50, few95 = few_times[page]
        ratio = p50 / few50
        # What takes a few milliseconds anyhow is not slower for a reader.
        past = p95 > WANTED_MS or (ratio > WANTED_RATIO and p50 - few50 > 5)
        worst |= past
        shown = f"{few50:>12.1f} / {few95:5.1f}{p50:>14.1f} / {p95:5.1f}{ratio:>11.2f}"
        print(f"{page:<28}{shown}{'   <- past what is wanted' if past else ''}")
    return int(worst)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
