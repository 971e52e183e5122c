"""Figures: the leader counts runs by the time at which they were made, and who waits, a bounded piece at a time.

A run that ends costs nothing for this: its bucket is counted again, ever more seldom, while some of its runs are
open."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from celeryflows.durations import DAY, MINUTE, SECOND
from celeryflows.engine.limits_in_use import limits_in_use
from celeryflows.engine.runtime import Runtime
from celeryflows.model.runs import OPEN
from celeryflows.store.connection import Connection
from celeryflows.store.figures import ALL, NAMES, Backlog, Counted

BUCKET = 5 * MINUTE
# The runs of a minute are one look: a snapshot that is held for long slows every hand-over of the engine.
LOOK = MINUTE
FRESH, BUCKETS_AT_ONCE = 15 * SECOND, 4
# What a new store, or one after an outage of its leader, is counted back for.
BACK = DAY
KEEP, KEEP_BACKLOG = 90 * DAY, 30 * DAY
# These only grow: what retention forgot meanwhile is not taken back.
GROWING = tuple(name for name in NAMES if name != "unfinished")
# How the reasons of skipped runs begin.
SKIPPED_BY = {"rate limi": "rate_limited", "singleton": "singletons", "duplicate": "duplicates", "paused": "paused"}


@dataclass(slots=True)
class Counter:
    """The leader's own; remembers the newest bucket that it has opened."""

    newest: int = 0
    sampled: int = 0
    # What the minutes of the newest bucket have of steps: each is read once while the bucket grows, and once after.
    work: dict[int, Mapping[str, tuple[int, int]]] = field(default_factory=dict)

    def piece(self, runtime: Runtime) -> int:
        """Count a few buckets that are due; how many."""
        with runtime.store.connection() as connection:
            now = connection.now()
            self._open(connection, now)
            due = connection.figures.due(BUCKETS_AT_ONCE)
        for at in due:
            count_bucket(runtime, at, now, self.work)
        return 0 if len(due) < BUCKETS_AT_ONCE else len(due)

    def sample(self, runtime: Runtime) -> int:
        """Keep who waits and works, and what is in use of each limit, once a minute."""
        with runtime.store.connection() as connection:
            now = connection.now()
            at = now - now % MINUTE
            if at > self.sampled:
                self.sampled = at
                # Limits first: where the backlog is known, they were counted too.
                capacities = runtime.catalog.read(connection).gates.numbers
                connection.limit_uses.put(at, limits_in_use(connection), capacities)
                connection.figures.put_backlog(at, with_all(connection.figures.backlog(), now))
        return 0

    def forget(self, runtime: Runtime) -> None:
        """Drop what is too old to be shown."""
        with runtime.store.connection() as connection:
            now = connection.now()
            connection.figures.forget(now - KEEP, now - KEEP_BACKLOG)
            connection.limit_uses.forget(now - KEEP_BACKLOG)

    def _open(self, connection: Connection, now: int) -> None:
        current = now - now % BUCKET
        if current != self.newest:
            known = max(connection.figures.newest() or 0, now - BACK)
            # The newest first: a store with a long past shows what happens now at once.
            connection.figures.open_buckets(range(current, known - known % BUCKET - 1, -BUCKET), now)
            self.newest = current
            self.work = {minute: found for minute, found in self.work.items() if minute >= current}


def count_bucket(
    runtime: Runtime, at: int, now: int, work: dict[int, Mapping[str, tuple[int, int]]] | None = None
) -> None:
    """Count the runs that were made in a bucket, minute by minute, and write it once. `work`: what is known of the
    steps of its minutes."""
    found: list[Counted] = []
    events, known = 0, {} if work is None or now - at - BUCKET >= FRESH else work
    with runtime.store.connection() as connection:
        for start in range(at, min(at + BUCKET, now + LOOK), LOOK):
            found += connection.figures.count(start, start + LOOK)
            events += connection.figures.count_events(start, start + LOOK)
            if start not in known and now - start >= LOOK + FRESH:
                known[start] = connection.figures.count_work(start, start + LOOK)
    counted = with_work(summed(found), [known[start] for start in known if at <= start < at + BUCKET])

    def write(tx: Connection) -> None:
        before = tx.figures.of_bucket(at)
        # Events belong to no flow: the row of all has them alone.
        by_flow = with_total(grown({flow: dict(its) for flow, its in counted.items()}, before))
        by_flow[ALL]["events"] = max(events, before.get(ALL, {}).get("events", 0))
        again = next_look(at, now, by_flow[ALL].get("unfinished", 0), runtime.settings.retention)
        tx.figures.put(at, by_flow, again)
        for flow, its in sorted(by_flow.items()):
            names = ("events",) if flow == ALL else GROWING
            old = before.get(flow, {})
            tx.totals.add(flow, {name: its.get(name, 0) - old.get(name, 0) for name in names})

    runtime.store.transact(write)


def with_work(
    by_flow: dict[str, dict[str, int]], minutes: Iterable[Mapping[str, tuple[int, int]]]
) -> dict[str, dict[str, int]]:
    """The counts with steps and retries."""
    for found in minutes:
        for flow, (steps, retries) in found.items():
            counts = by_flow.setdefault(flow, {})
            counts["steps"] = counts.get("steps", 0) + steps
            counts["retries"] = counts.get("retries", 0) + retries
    return by_flow


def next_look(at: int, now: int, unfinished: int, retention: int) -> int | None:
    """When a bucket is counted again: soon while it grows, then each time it is half as old again; None: never."""
    age = now - at - BUCKET
    if age < FRESH:
        return now + FRESH
    if not unfinished or age > KEEP or (retention and age > retention):
        return None
    return now + max(FRESH, age // 2)


def summed(found: Iterable[Counted]) -> dict[str, dict[str, int]]:
    """By flow."""
    totals: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for one in found:
        counts = totals[one.flow]
        counts["made"] += one.runs
        counts["started"] += one.started
        counts["waited"] += one.waited
        counts["unfinished" if one.status in OPEN else one.status] += one.runs
        if one.class_ is not None:
            counts[f"d{one.class_}"] += one.runs
            counts["took"] += one.took
        if one.why in SKIPPED_BY:
            counts[SKIPPED_BY[one.why]] += one.runs
    return {flow: dict(counts) for flow, counts in totals.items()}


def grown(by_flow: dict[str, dict[str, int]], before: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """Nothing is less than it was, but for what was under way."""
    for flow, counts in before.items():
        kept = by_flow.setdefault(flow, {})
        for name in GROWING:
            kept[name] = max(kept.get(name, 0), counts[name])
    return by_flow


def with_total(by_flow: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """And all flows together, under ''."""
    total: dict[str, int] = defaultdict(int)
    flows = {flow: dict(counts) for flow, counts in by_flow.items() if flow != ALL}
    for counts in flows.values():
        for name, value in counts.items():
            total[name] += value
    return {**flows, ALL: dict(total)}


def with_all(found: list[Backlog], now: int) -> list[Backlog]:
    """Each flow's and all of them under '', with the age of the oldest."""
    aged = [Backlog(one.flow, one.queued, one.running, now - one.oldest if one.oldest else None) for one in found]
    oldest = max((one.oldest for one in aged if one.oldest is not None), default=None)
    return [*aged, Backlog(ALL, sum(one.queued for one in aged), sum(one.running for one in aged), oldest)]
