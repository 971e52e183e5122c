"""Windows: starts that gather before they become a run: a debounce waits for quiet, a batch for enough."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from celeryflows.engine.starts import Start
from celeryflows.expressions import compile_expression, condition
from celeryflows.flow_control import debounce as rule
from celeryflows.flow_control.batch import Verdict as Gathers
from celeryflows.flow_control.batch import judge as judge_batch
from celeryflows.flow_control.keys import Key
from celeryflows.model.limits import Batch
from celeryflows.model.runs import NewRun, Place, Status
from celeryflows.model.triggers import KEY_NAMES
from celeryflows.store.batches import BatchRow
from celeryflows.store.connection import Connection

DEBOUNCE, BATCH = "debounce", "batch"


def debounce(tx: Connection, starts: Sequence[Start]) -> list[Start]:
    """Put each start into its key's window, in the order of the keys; of one key in the order of the list."""
    asked = [
        (start.key(DEBOUNCE, start.limits.debounce.key), i)
        for i, start in enumerate(starts)
        if start.limits.debounce is not None and start.is_under_way
    ]
    judged = list(starts)
    new: dict[str, int] = {}
    for key, i in sorted(asked, key=lambda one: (one[0].name, one[1])):
        _bounce(tx, judged, i, key, new)
    return judged


def _bounce(tx: Connection, judged: list[Start], i: int, key: Key, new: dict[str, int]) -> None:
    start, limit = judged[i], judged[i].limits.debounce
    assert limit is not None
    ts, run_id = start.event.ts, start.run.id
    row = tx.debounces.take(key.name, run_id, ts, period=limit.period_us, timeout=limit.timeout_us)
    stands = row.run_id != run_id and (row.run_id in new or _is_scheduled(tx, row.run_id))
    verdict = rule.judge(rule.Window(row.ts, row.deadline) if stands else None, ts)
    if verdict is rule.Verdict.OPENS:
        new[run_id] = i
        judged[i] = replace(start, run=_waiting(start.run, key, batch=None))
        if row.run_id == run_id:
            return
        row = replace(row, run_id=run_id, deadline=rule.deadline_of(limit, row.now))
    else:
        judged[i] = replace(start, joined=row.run_id, renews=verdict is rule.Verdict.MOVES)
    if verdict is not rule.Verdict.IS_OLD:
        at = rule.fire_at(limit, row.deadline, row.now)
        tx.debounces.put(key.name, replace(row, ts=ts, fire_at=at))


@dataclass(slots=True)
class _Gathering:
    """Batches while a list of starts goes through: those that began in this transaction, by their run's place in the
    list, and the runs of those that began before and are full now, each with its key."""

    new: dict[str, int] = field(default_factory=dict)
    full: dict[str, Key] = field(default_factory=dict)


def gather(tx: Connection, starts: Sequence[Start]) -> tuple[list[Start], dict[str, Key]]:
    """Put each start into its key's batch, in the order of the keys; of one key in the order of the list. One whose
    condition is false goes on alone; one that a debounce keeps asks when that closes. Also the runs that are due by
    that, each with its batch's key."""
    asked = [
        (start.key(BATCH, start.limits.batch.key), i)
        for i, start in enumerate(starts)
        if start.limits.batch is not None
        and start.is_under_way
        and not start.waits
        and _belongs(start, start.limits.batch)
    ]
    judged, gathering = list(starts), _Gathering()
    for key, i in sorted(asked, key=lambda one: (one[0].name, one[1])):
        _join(tx, judged, i, key, gathering)
    return judged, gathering.full


def _belongs(start: Start, limit: Batch) -> bool:
    if limit.if_exp is None:
        return True
    compiled = compile_expression(limit.if_exp, names=KEY_NAMES, what=f"batch of flow {start.run.flow!r}")
    return condition(compiled, start.scope)[0]


def _join(tx: Connection, judged: list[Start], i: int, key: Key, gathering: _Gathering) -> None:
    start, limit = judged[i], judged[i].limits.batch
    assert limit is not None
    run_id, size = start.run.id, len(start.event.text.encode())
    row = tx.batches.take(key.name, run_id, limit.timeout_us)
    if row.run_id != run_id and row.run_id not in gathering.new and not _is_scheduled(tx, row.run_id):
        row = _begin(tx, key, run_id, limit)
    verdict = judge_batch(limit, row.n, row.bytes, size)
    if verdict is Gathers.OVERFLOWS:
        _close(judged, row.run_id, key, row.n, gathering)
        row = _begin(tx, key, run_id, limit)
        verdict = judge_batch(limit, 0, 0, size)
    if row.run_id == run_id:
        gathering.new[run_id] = i
        judged[i] = replace(start, run=_waiting(start.run, key, batch=1))
    else:
        judged[i] = replace(start, joined=row.run_id)
    tx.batches.add_event(row.run_id, start.event.id, row.n, start.link)
    if verdict is Gathers.FILLS:
        _close(judged, row.run_id, key, row.n + 1, gathering)
        tx.batches.end(key.name)
    else:
        tx.batches.grow(key.name, size)


def _begin(tx: Connection, key: Key, run_id: str, limit: Batch) -> BatchRow:
    tx.batches.begin(key.name, run_id, limit.timeout_us)
    return BatchRow(run_id, 0, 0)


def _close(judged: list[Start], run_id: str, key: Key, count: int, gathering: _Gathering) -> None:
    """A batch is full: what began in this transaction starts in it, else its run is due."""
    i = gathering.new.pop(run_id, None)
    if i is None:
        gathering.full[run_id] = key
        return
    run = replace(judged[i].run, status=Status.QUEUED, place=Place(batch=count))
    judged[i] = replace(judged[i], run=run)


def _waiting(run: NewRun, key: Key, *, batch: int | None) -> NewRun:
    place = Place(held_at=key.name, batch=batch)
    return replace(run, status=Status.SCHEDULED, wake_at=None, start_within=None, place=place)


def _is_scheduled(tx: Connection, run_id: str) -> bool:
    return bool(tx.windows.scheduled([run_id]))
