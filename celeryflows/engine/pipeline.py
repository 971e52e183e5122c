"""The limits in their order: rate limit, debounce, batch, idempotency, singleton, paused, throttle, concurrency.

Each takes the list of starts and gives it back; nothing is written but its own rows, locked in the order of schema."""

from collections.abc import Sequence
from dataclasses import replace

from celeryflows.engine import gates
from celeryflows.engine.catalog import Snapshot
from celeryflows.engine.passage import Passage
from celeryflows.engine.runtime import Runtime
from celeryflows.engine.starts import Start
from celeryflows.store.connection import Connection

PAUSED = "paused"


def judge(
    runtime: Runtime, tx: Connection, catalog: Snapshot, starts: Sequence[Start], passage: Passage | None = None
) -> list[Start]:
    """What becomes of new starts: now, held, later, skipped, or put to another run. Lock classes 2 to 6."""
    judged = list(starts)
    limited = any(start.limits for start in judged)
    if limited:
        gates.lock_meters(runtime, tx, judged)
    judged = [_paused(catalog, start) for start in judged]
    judged = [bounded(start) for start in judged]
    return gates.enter(runtime, tx, judged, passage) if limited else judged


def judge_due(runtime: Runtime, tx: Connection, starts: Sequence[Start]) -> list[Start]:
    """What becomes of scheduled runs whose time has come: those limits that hold at the start alone."""
    judged = list(starts)
    gates.lock_meters(runtime, tx, judged)
    return gates.enter(runtime, tx, judged)


def judge_again(runtime: Runtime, tx: Connection, starts: Sequence[Start]) -> list[Start]:
    """What becomes of reruns and replays: asked for by hand, they pass throttle and concurrency alone."""
    judged = list(starts)
    gates.lock_meters(runtime, tx, judged)
    return gates.enter(runtime, tx, judged)


def _paused(catalog: Snapshot, start: Start) -> Start:
    return start.skipped(PAUSED) if start.is_under_way and start.run.flow in catalog.paused else start


def bounded(start: Start) -> Start:
    """With the bound of its start, where its flow has one."""
    if not start.is_under_way or start.flow is None or start.flow.timeouts is None:
        return start
    return replace(start, run=replace(start.run, start_within=start.flow.timeouts.start_us))
