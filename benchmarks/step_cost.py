"""What a recorded step costs our process, beside the driver's bare statement on the same store.

`python -m benchmarks.step_cost [sqlite|postgresql]`: CPU of this process, one thread, no broker."""

import sqlite3
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg

from benchmarks.bench import compared, finish, interleaved, load, reached, store_of
from benchmarks.table import Bound, Row
from celeryflows.engine.runtime import Flow, Runtime
from celeryflows.engine.starting import Call, start
from celeryflows.engine.turn import take_turn
from celeryflows.model.events import FLOW_INVOKED, Event
from celeryflows.model.flows import FlowDefinition
from celeryflows.model.retries import RetryPolicy
from celeryflows.scheduler.inline import InlineDispatcher
from celeryflows.schemas import SchemaRegistry
from celeryflows.store.database import Store
from celeryflows.store.steps import RECORD

STEPS, ROUNDS = 900, 7
# Milliseconds, and times the bare statement.
WANTED, TIMES = 0.4, 4.0
NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


def many(ctx: Any) -> None:
    """Steps that do nothing."""
    for i in range(STEPS):
        ctx.step.run(f"s{i}", int)


def none(ctx: Any) -> None:
    """A turn without a step, to take its cost off."""


def runtime_of(url: str) -> Runtime:
    """An engine on the store, without a broker."""
    flows = {f.__name__: Flow(FlowDefinition(f.__name__), f, RetryPolicy()) for f in (many, none)}
    return Runtime("cost", Store(url), InlineDispatcher(), SchemaRegistry(), flows)


def turn_cpu(runtime: Runtime, flow: str) -> float:
    """CPU milliseconds of one turn of the flow."""
    run_id = start(runtime, Call(flow, Event(FLOW_INVOKED)))
    began = time.process_time()
    take_turn(runtime, run_id)
    return (time.process_time() - began) * 1000


def step_cpu(runtime: Runtime) -> float:
    """CPU milliseconds of one recorded step."""
    return (turn_cpu(runtime, "many") - turn_cpu(runtime, "none")) / STEPS


def bare_cpu(runtime: Runtime, execute: Callable[[str, dict[str, Any]], Any]) -> float:
    """CPU milliseconds of the bare statement, with a run claimed for it."""
    sql, row = statement(runtime)
    rows = [row(i) for i in range(STEPS)]
    began = time.process_time()
    for parameters in rows:
        execute(sql, parameters)
    return (time.process_time() - began) * 1000 / STEPS


def statement(runtime: Runtime) -> tuple[str, Callable[[int], dict[str, Any]]]:
    """The statement that records a step, and the parameters of a numbered one, on a run that is claimed for it."""
    run_id = start(runtime, Call("none", Event(FLOW_INVOKED)))
    with runtime.store.connection() as connection:
        claim = connection.runs.claim(run_id, "bench", 1)
    assert claim is not None
    return runtime.store.dialect.compile(RECORD), partial(_parameters, claim.run_id, claim.turn)


def _parameters(run: str, turn: int, number: int) -> dict[str, Any]:
    return {
        "run": run,
        "turn": turn,
        "token": 1,
        "key": f"s{number}",
        "kind": "run",
        "state": "done",
        "attempts": 1,
        "value": "0",
        "began": 0,
        "took": 1,
        "due": None,
        "now": time.time_ns() // 1000,
    }


def bare(store: Store) -> Callable[[str, dict[str, Any]], Any]:
    """The driver's own execute on a connection of its own, with the row fetched."""
    url = store.url
    if url.get_backend_name() == "sqlite":
        raw = sqlite3.connect(str(url.database), isolation_level=None, timeout=30)
        raw.execute("PRAGMA synchronous=NORMAL")
        return lambda sql, row: raw.execute(sql, row).fetchall()
    target = url.set(drivername="postgresql").render_as_string(hide_password=False)
    connection = psycopg.connect(target, autocommit=True, prepare_threshold=0)
    cursor = connection.cursor()
    return lambda sql, row: cursor.execute(sql, row).fetchall()


def measure(kinds: list[str], rounds: int = ROUNDS) -> list[Row]:
    """Print each store's figures."""
    rows: list[Row] = []
    for kind in kinds:
        with store_of(kind) as url:
            runtime = runtime_of(url)
            execute = bare(runtime.store)
            sides = interleaved(
                rounds,
                recorded_step=lambda r=runtime: step_cpu(r),
                bare_statement=lambda r=runtime, e=execute: bare_cpu(r, e),
            )
            ours, theirs = sides.values()
            print(f"== {kind}, {STEPS} steps a round, milliseconds of CPU, {load()}")
            for side in sides.values():
                print(f"  {side.name}: {side.median:.3f} (min {min(side.figures):.3f}, max {max(side.figures):.3f})")
            rows += [
                compared(f"our CPU of a recorded step, {NAMES[kind]}", ours, theirs, Bound(TIMES, at_most=True), "ms"),
                reached(f"our CPU of a recorded step, {NAMES[kind]}", ours, Bound(WANTED, at_most=True), "ms"),
            ]
            runtime.store.dispose()
    return rows


if __name__ == "__main__":
    raise SystemExit(finish(measure(sys.argv[1:] or ["sqlite", "postgresql"])))
