"""The kinds of limits that many events meet, and what is seen of them while a world goes on."""

import json
from collections import defaultdict
from dataclasses import replace

from celeryflows.durations import SECOND
from celeryflows.model.limits import (
    Batch,
    Concurrency,
    Debounce,
    Limits,
    Priority,
    RateLimit,
    Singleton,
    Throttle,
)
from tests.simulation.stores import WorldStore

KEY = "event.data.k"
MOST, PERIOD, QUIET, CAP, SIZE, GATHERING = 2, 60, 10, 25, 3, 20
KINDS: dict[str, Limits] = {
    "singleton skip": Limits(singleton=Singleton("skip", key=KEY)),
    "singleton cancel": Limits(singleton=Singleton("cancel", key=KEY)),
    "rate limit": Limits(rate_limit=RateLimit(MOST, f"{PERIOD}s", key=KEY)),
    "throttle": Limits(throttle=Throttle(MOST, f"{PERIOD}s", key=KEY, burst=2)),
    "debounce": Limits(debounce=Debounce(f"{QUIET}s", key=KEY, timeout=f"{CAP}s")),
    "batch": Limits(batch=Batch(SIZE, f"{GATHERING}s", key=KEY)),
    "idempotency": Limits(idempotency=KEY),
    "priority": Limits(concurrency=(Concurrency(1),), priority=Priority("event.data.p")),
}
# Behind the limit that the first word names, all wait for their turn, or for a throttle.
ONE, SLOWLY = (Concurrency(1),), KINDS["throttle"].throttle
KINDS |= {f"{kind}, one at a time": replace(KINDS[kind], concurrency=ONE) for kind in (*KINDS,) if kind != "priority"}
KINDS |= {
    f"{kind}, throttle": replace(KINDS[kind], throttle=SLOWLY)
    for kind in ("singleton skip", "singleton cancel", "rate limit", "debounce", "batch", "idempotency")
}
KINDS["debounce, batch"] = replace(KINDS["debounce"], batch=KINDS["batch"].batch)
# Many events, and no limit of these.
FREE = "free"
STANDS = """
SELECT r.id, r.flow, r.status, r.held_at, r.started_at, r.created_at, e.data
FROM flows_runs r JOIN flows_events e ON e.id = r.event_id
WHERE r.status IN ('queued', 'running', 'suspended', 'completed', 'failed')
"""


class Crowds:
    """`accepted`: by program the ids of the events whose senders were told so; `let_in`: of each run between which two
    looks it was let in; `at_work`: of each run those that were at work before it came. `ordered`: the flows whose runs
    are let in by rank."""

    def __init__(self, store: WorldStore, ordered: frozenset[str]) -> None:
        self.accepted: defaultdict[int, set[str]] = defaultdict(set)
        self.let_in: dict[str, tuple[int, int]] = {}
        self.at_work: dict[str, frozenset[str]] = {}
        self._running: frozenset[str] = frozenset()
        self._store = store
        self._ordered = ordered
        self._waiting: dict[str, dict[str, int]] = {}
        self._looked = 0

    def look(self, now: int) -> str | None:
        """What is wrong with who was let in since the last look; None when all is well."""
        waiting: defaultdict[str, dict[str, int]] = defaultdict(dict)
        inside: set[str] = set()
        with self._store.unlinked() as connection:
            rows = connection.execute(STANDS)
        for row in rows:
            self.at_work.setdefault(row[0], self._running)
        self._running = frozenset(row[0] for row in rows if row[2] == "running")
        for id, flow, status, held_at, started_at, created_at, data in rows:
            if started_at is None and status == "queued" and held_at is not None:
                if flow in self._ordered and held_at != "0":
                    waiting[flow][id] = created_at - json.loads(data)["p"] * SECOND
            else:
                inside.add(id)
                self.let_in.setdefault(id, (self._looked, now))
        for flow, before in self._waiting.items():
            called = [rank for id, rank in before.items() if id in inside]
            left = [rank for id, rank in before.items() if id in waiting[flow]]
            if called and left and max(called) > min(left):
                return f"of {flow} one of rank {max(called)} was let in before one of rank {min(left)}"
        self._waiting, self._looked = waiting, now
        return None
