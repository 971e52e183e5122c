"""The limits in their order: rate limit, debounce, batch, idempotency, singleton, paused, throttle, concurrency.

Each takes the list of starts and gives it back; nothing is written but its own rows, locked in the order of schema."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from celeryflows.engine import gates, idempotency
from celeryflows.engine.catalog import Snapshot
from celeryflows.engine.passage import Passage
from celeryflows.engine.rate_limits import rate_limit
from celeryflows.engine.runtime import Runtime
from celeryflows.engine.singletons import singleton
from celeryflows.engine.starts import Start
from celeryflows.engine.windows import debounce, gather
from celeryflows.flow_control.keys import Key
from celeryflows.flow_control.priority import head_start
from celeryflows.model.runs import Place
from celeryflows.store.connection import Connection

PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of starts, in their order; `full`: runs whose batch is full by them, each with its batch's key, and
    `paused` those of them whose flow is paused."""

    starts: Sequence[Start] = ()
    full: dict[str, Key] = field(default_factory=dict)
    paused: frozenset[str] = frozenset()

    @property
    def others(self) -> set[str]:
        """Runs of before that change with them."""
        touched = {run for start in self.starts for run in (start.joined, start.replaces) if run is not None}
        return (touched | self.full.keys()) - {start.run.id for start in self.starts if start.joined is None}


def judge(
    runtime: Runtime, tx: Connection, catalog: Snapshot, starts: Sequence[Start], passage: Passage | None = None
) -> Judged:
    """What becomes of new starts: now, held, later, skipped, or put to another run. Lock classes 2 to 6.

    Those that are scheduled for later are judged by the rest when their time has come.
    """
    if not any(start.limits for start in starts):
        return Judged([bounded(_paused(catalog, start)) for start in starts])
    # Their keys come first in the order of locks, and are given back where a limit before them skips.
    taken = idempotency.take_all(tx, catalog, starts)
    gates.lock_meters(tx, catalog, starts)
    judged = rate_limit(tx, starts)
    judged = debounce(tx, judged)
    judged = idempotency.skip_repeats(tx, judged, taken)
    judged, full = gather(tx, judged)
    # A pause takes no singleton, and ends no run that has it.
    judged = [start if start.waits else _paused(catalog, start) for start in judged]
    judged = singleton(tx, judged)
    judged = [bounded(_with_head_start(start)) for start in idempotency.settle(tx, judged, taken)]
    paused = frozenset(run_id for run_id, one in full.items() if one.flow in catalog.paused)
    # Who waited for a lock of another limit looks again how many its gates let in by now.
    known = catalog if all(start.limits.of_gates_alone for start in starts) else runtime.catalog.read(tx)
    return Judged(gates.enter(tx, known, judged, passage), full, paused)


def _with_head_start(start: Start) -> Start:
    if start.limits.priority is None or not start.is_under_way:
        return start
    priority = head_start(start.limits.priority, start.run.flow, start.scope) or None
    return replace(start, run=replace(start.run, place=replace(start.run.place or Place(), priority=priority)))


def _paused(catalog: Snapshot, start: Start) -> Start:
    return start.skipped(PAUSED) if start.is_under_way and start.run.flow in catalog.paused else start


def bounded(start: Start) -> Start:
    """With the bound of its start, where its flow has one; a run that waits in a window gets it when that closes."""
    if not start.is_under_way or start.flow is None or start.flow.timeouts is None or start.waits:
        return start
    return replace(start, run=replace(start.run, start_within=start.flow.timeouts.start_us))
