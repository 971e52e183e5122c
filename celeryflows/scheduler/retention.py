"""Retention: old runs, events and audit entries are forgotten a bounded piece a transaction, while workers go on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from celeryflows.engine.runtime import Runtime
from celeryflows.model.events import CRON_FIRED, FLOW_INVOKED, RUN_CANCELLED, RUN_COMPLETED, RUN_FAILED
from celeryflows.store.connection import Connection
from celeryflows.store.database import Store
from celeryflows.store.retention import Ended, first_id

PIECE = 200
# Their ids follow from a run or a moment: they are found by their name.
OUR_NAMES = (CRON_FIRED, FLOW_INVOKED, RUN_CANCELLED, RUN_COMPLETED, RUN_FAILED)


@dataclass(frozen=True, slots=True)
class Old:
    """What may go: runs that ended, and events stored, up to `before`; an event that was sent by its sender's own id
    stays, with its runs, until a repeat would start them anew (`sent_after`). Microseconds. `flow`: its runs alone.
    `dry`: only look. Entries of the audit go by a moment of their own; 0: none of these."""

    before: int
    sent_after: int
    flow: str | None = None
    dry: bool = False
    audit_before: int = 0


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What a piece forgot."""

    runs: int = 0
    events: int = 0
    entries: int = 0


def old_by_setting(runtime: Runtime) -> Old:
    """What `flows_retention`, where there is one, and `flows_audit_retention` let go now."""
    with runtime.store.connection() as connection:
        now = connection.now()
    settings = runtime.settings
    before = now - settings.retention if settings.retention else 0
    return Old(before, now - settings.dedupe, audit_before=now - settings.audit_retention)


def forget(store: Store, old: Old, piece: int = PIECE) -> Iterator[Forgotten]:
    """Forget what is old; each step of the iterator is one bounded piece. A dry walk counts runs and no more."""
    if old.audit_before > 0:
        yield from _forget_audit(store, old.audit_before, piece)
    if old.before <= 0:
        return
    for runs in _pages_of_runs(store, old, piece):
        yield _forget_runs(store, old, runs)
    if old.flow is not None or old.dry:
        return
    for ids in _pages_of_events(store, old, piece):
        yield Forgotten(events=store.transact(lambda tx, ids=ids: _forget_events(tx, old, ids)))  # type: ignore[misc]
    with store.connection() as connection:
        connection.retention.forget_replays(old.before)


def _forget_audit(store: Store, before: int, piece: int) -> Iterator[Forgotten]:
    below, after = first_id(before), ""
    while True:
        with store.connection() as connection:
            ids = connection.audit.old(before, after, below, piece)
            if not ids:
                return
            connection.audit.forget(ids)
        yield Forgotten(entries=len(ids))
        after = ids[-1]


def _forget_runs(store: Store, old: Old, found: Sequence[Ended]) -> Forgotten:
    ended = [run for run in found if run.is_old(old.before)]
    if not ended:
        return Forgotten()
    with store.connection() as connection:
        held = connection.retention.held(ended, old.sent_after)
    ids = [run.id for run in ended if run.id not in held]
    if old.dry or not ids:
        return Forgotten(runs=len(ids))

    def work(tx: Connection) -> Forgotten:
        runs, events = tx.retention.forget_runs(ids)
        return Forgotten(runs, _forget_events(tx, old, events))

    return store.transact(work)


def _forget_events(tx: Connection, old: Old, ids: Sequence[str]) -> int:
    return tx.retention.forget_events(ids, old.before, old.sent_after)


def _pages_of_runs(store: Store, old: Old, piece: int) -> Iterator[list[Ended]]:
    below, after = first_id(old.before), ""
    while True:
        with store.connection() as connection:
            verbs = connection.retention
            found = (
                verbs.runs_by_id(after, below, piece)
                if old.flow is None
                else verbs.runs_of_flow(old.flow, after, piece)
            )
        if not found:
            break
        yield found
        after = found[-1].id
    if old.flow is None:
        yield from _pages_of_odd_runs(store, old, piece)


def _pages_of_odd_runs(store: Store, old: Old, piece: int) -> Iterator[list[Ended]]:
    since, after = 0, ""
    while True:
        with store.connection() as connection:
            found = connection.retention.odd_runs(old.before, since, after, piece)
        if not found:
            return
        yield found
        since, after = found[-1].ended_at or 0, found[-1].id


def _pages_of_events(store: Store, old: Old, piece: int) -> Iterator[list[str]]:
    below, after = first_id(old.before), ""
    while True:
        with store.connection() as connection:
            ids = connection.retention.events_by_id(after, below, piece)
        if not ids:
            break
        yield ids
        after = ids[-1]
    for name in OUR_NAMES:
        yield from _pages_of_name(store, name, old, piece)


def _pages_of_name(store: Store, name: str, old: Old, piece: int) -> Iterator[list[str]]:
    # Those at 0 are private: each goes with its run.
    since, after = 1, ""
    while True:
        with store.connection() as connection:
            found = connection.retention.events_of_name(name, old.before, since, after, piece)
        if not found:
            return
        yield [event_id for event_id, _ in found]
        after, since = found[-1]


@dataclass(slots=True)
class Pruner:
    """The leader's own: a lap over what is old, a piece at a time; the next lap begins with the next call after it."""

    runtime: Runtime
    _lap: Iterator[Forgotten] | None = field(default=None)

    def piece(self, _runtime: Runtime) -> int:
        """Forget the next piece; 0 at the end of a lap."""
        if self._lap is None:
            self._lap = forget(self.runtime.store, old_by_setting(self.runtime))
        try:
            done = next(self._lap, None)
        except BaseException:
            self._lap = None
            raise
        if done is None:
            self._lap = None
        return 0 if done is None else 1
