"""Idempotency: one run for each value of the expression in 24 hours; what comes after it is skipped."""

from collections.abc import Mapping, Sequence

from celeryflows.durations import DAY
from celeryflows.engine.catalog import Snapshot
from celeryflows.engine.starts import Start, told_key
from celeryflows.flow_control.keys import Key
from celeryflows.store.connection import Connection

KIND = "idempotency"


def key_of(start: Start) -> Key | None:
    """Its key, None where none counts: no expression, or a null value."""
    expression = start.limits.idempotency
    key = start.key(KIND, expression) if expression is not None else None
    return None if key is None or key.is_null else key


# By a start's place in the list: its key, and the run that had it before.
Taken = Mapping[int, tuple[Key, str | None]]


def take_all(tx: Connection, catalog: Snapshot, starts: Sequence[Start]) -> Taken:
    """Take the keys of starts, before any limit of a later lock class. Debounced ones are asked when they fire."""
    keyed = [
        (key, i)
        for i, start in enumerate(starts)
        if start.limits.idempotency is not None
        and start.limits.debounce is None
        and start.is_under_way
        and start.run.flow not in catalog.paused
        and (key := key_of(start)) is not None
    ]
    return {
        i: (key, take(tx, key, starts[i].run.id)) for key, i in sorted(keyed, key=lambda one: (one[0].name, one[1]))
    }


def take(tx: Connection, key: Key, run_id: str) -> str | None:
    """Take a key for a run; the run that had it first, if there is one."""
    return None if tx.once.take(key.name, run_id, DAY) else tx.once.holder(key.name) or ""


def reason(key: Key, holder: str) -> str:
    """Why a repeat is skipped; a replay of what was skipped leaves it, as it does repeats of event ids."""
    return f"duplicate: {KIND} key{key.shown('')} has started run {holder}"


def skip_repeats(
    tx: Connection, starts: Sequence[Start], taken: Taken, joined: Mapping[str, str] | None = None
) -> list[Start]:
    """Skip those whose key another run had, as far as no limit before did. `joined`: of holders that ended up in other
    runs, which."""
    judged = list(starts)
    for i, (key, holder) in taken.items():
        reached = starts[i].run.reached
        if holder is not None and (starts[i].is_under_way or (reached is not None and reached.limit == KIND)):
            judged[i] = starts[i].skipped(reason(told_key(tx, key), (joined or {}).get(holder, holder)), key)
    return judged


def settle(tx: Connection, starts: Sequence[Start], taken: Taken) -> list[Start]:
    """Keys count with a run only: those of skipped starts are free again, of joined ones they are the other run's."""
    for i, (key, holder) in sorted(taken.items(), key=lambda one: one[1][0].name):
        if holder is not None:
            continue
        if starts[i].joined is not None:
            tx.once.point(key.name, starts[i].joined or "")
        elif not starts[i].is_under_way:
            tx.once.give_back(key.name, starts[i].run.id)
    joined = {start.run.id: start.joined for start in starts if start.joined is not None}
    return skip_repeats(tx, starts, taken, joined) if joined else list(starts)
