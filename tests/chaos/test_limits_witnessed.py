"""Every kind of limit over four real workers that are killed on the way: never exceeded, nothing lost, as told by a
witness in Redis that the steps speak to."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from heapq import heappop, heappush
from itertools import pairwise
from typing import Any

import pytest
from celery import Celery
from redis import Redis

from celeryflows import Event
from tests.acceptance.crew import Crew
from tests.celery.apps import witnessed
from tests.celery.apps.sheet import Sheet
from tests.celery.apps.witnessed import ALLOWED, BATCH, BURST, LIMITS, PLACES, RATE, TASKS
from tests.kinds import KINDS
from tests.waiting import eventually
from tests.worlds import BRISK, World

USERS = [f"u{n}" for n in range(10)]
COUNTER_DATABASE = 13
SECOND = 1_000_000


class Party:
    """Four workers of two processes, what was sent to them, and the witness."""

    def __init__(self, world: World, stack: ExitStack, counter: Redis, sheet: Sheet = witnessed.sheet) -> None:
        self.world, self.counter = world, counter
        self.app: Celery = world.app(sheet)
        self.crew = Crew(world, stack, "tests.celery.apps.witnessed")
        self.sent: Counter[str] = Counter()
        self.newest: dict[str, dict[str, int]] = {}
        self.began: dict[str, float] = {}
        self.crew.hire_many(4, "-c", "2")

    def play(self, kinds: list[str], count: int, kills: int) -> None:
        """Send so many events of each kind; workers are killed while there is work, and others take their place."""
        portion = -(-count // (kills + 1))
        for number in range(kills + 1):
            least = self.ended() + (self.open() + portion * len(kinds)) // 3
            for kind in kinds:
                self.send(kind, min(portion, count - self.sent[kind]), count)
            if number < kills:
                eventually(lambda n=least: self.ended() >= n or not self.open(), within=300, every=0.1)
                self.crew.kill(self.crew.living[0])
                self.crew.hire("-c", "2")
        eventually(lambda: not self.open(), within=60 + count * len(kinds) / 10, every=0.2)

    def send(self, kind: str, count: int, of: int) -> None:
        seconds, micros = self.counter.time()
        self.began.setdefault(kind, seconds + micros / 1e6)
        first = self.sent[kind]
        values = max(1, of // 10)
        for start in range(first, first + count, 50):
            numbers = range(start, min(start + 50, first + count))
            data = [
                {"no": no, "user": USERS[no % len(USERS)], "value": f"v{no % values}", "head": no * 37 % 600}
                for no in numbers
            ]
            if kind in TASKS:
                self.call(kind, data)
            else:
                self.app.flows.send([Event(f"seen/{kind}", one) for one in data])  # type: ignore[attr-defined]
            self.newest.setdefault(kind, {}).update({one["value"]: one["no"] for one in data})
        self.sent[kind] += count

    def call(self, kind: str, calls: list[dict[str, Any]]) -> None:
        """Plain calls, in one way and another."""
        name = f"witnessed.{kind}"
        for one in calls:
            if one["no"] % 2:
                self.app.tasks[name].delay(**one)
            else:
                self.app.send_task(name, kwargs=one)

    def ended(self) -> int:
        return int(self.world.rows("SELECT count(*) FROM flows_runs WHERE ended_at IS NOT NULL")[0][0])

    def open(self) -> int:
        return int(self.world.rows("SELECT count(*) FROM flows_runs WHERE ended_at IS NULL")[0][0])

    def ends(self, kind: str) -> Counter[str]:
        rows = self.world.rows(
            "SELECT status, count(*) FROM flows_runs WHERE flow = :flow GROUP BY status", flow=f"witnessed.{kind}"
        )
        return Counter({status: int(count) for status, count in rows})

    def starts(self, kind: str, user: str) -> list[float]:
        """When its runs were first inside, in seconds since before the first was sent."""
        found = self.counter.zrange(f"started:{kind}:{user}", 0, -1, withscores=True)
        return sorted(at - self.began[kind] for _, at in found)


def nobody_was_too_many(party: Party, kind: str) -> None:
    """Concurrency and singleton."""
    most = {name: int(count) for name, count in party.counter.zrange("most", 0, -1, withscores=True)}
    for place, limit in PLACES[kind].items():
        found = {name: most[name] for name in {place.format(user=user) for user in USERS}}
        assert max(found.values()) <= limit, found
        # They were not simply one after the other.
        assert max(found.values()) >= min(limit, 2), found
        assert not any(party.counter.scard(f"in:{name}") for name in found)
    ends = party.ends(kind)
    done = {"completed", "skipped"} if kind.startswith("single") else {"completed"}
    assert (set(ends), ends.total()) == (done, party.sent[kind])
    if kind == "shared":
        assert party.ends("sharing") == ends


def not_too_fast(starts: list[float], at_once: int, a_second: float) -> None:
    """By no moment more have started than the rate allows from the first event on."""
    for number, at in enumerate(starts, start=1):
        assert number <= at_once + at * a_second, (number, at)


def throttled(party: Party, kind: str) -> None:
    starts = sorted(at for user in USERS for at in party.starts(kind, user))
    not_too_fast(starts, BURST, RATE)
    assert len(starts) == party.sent[kind]
    assert party.ends(kind) == {"completed": party.sent[kind]}


def rated(party: Party, kind: str) -> None:
    started = {user: party.starts(kind, user) for user in USERS}
    for starts in started.values():
        not_too_fast(starts, ALLOWED, ALLOWED)
    ends = party.ends(kind)
    assert ends["completed"] == sum(map(len, started.values())) >= min(ALLOWED * len(USERS), party.sent[kind])
    assert ends["completed"] + ends["skipped"] == party.sent[kind]


def once_each(party: Party, kind: str) -> None:
    values = party.newest[kind]
    assert {party.counter.scard(f"runs:{kind}:{value}") for value in values} == {1}
    assert party.ends(kind) == {"completed": len(values), "skipped": party.sent[kind] - len(values)}


def one_takes_the_place_of_another(party: Party, kind: str) -> None:
    """A singleton that cancels: never two, by the store's clock neither; the newest of each user is done."""
    most = {name: int(count) for name, count in party.counter.zrange("most", 0, -1, withscores=True)}
    assert {most.get(f"{kind} {user}") for user in USERS} == {1}
    rows = party.world.rows(
        "SELECT e.data, r.status, r.reason, r.started_at, r.ended_at FROM flows_runs r "
        "JOIN flows_events e ON e.id = r.event_id WHERE r.flow = :flow ORDER BY r.id",
        flow=f"witnessed.{kind}",
    )
    runs = [(json.loads(data), *rest) for data, *rest in rows]
    assert len(runs) == party.sent[kind]
    for user in USERS:
        mine = [run for run in runs if run[0]["user"] == user]
        assert max(mine, key=lambda run: run[0]["no"])[1] == "completed"
        assert {run[1] for run in mine} == {"completed", "cancelled"}
        assert all(run[2].startswith("singleton: replaced by run ") for run in mine if run[1] == "cancelled")
        spans = sorted((started, ended) for *_, started, ended in mine if started is not None)
        assert all(before[1] <= after[0] for before, after in pairwise(spans))


def in_order_of_rank(party: Party, kind: str) -> None:
    """Priority under limit 1: who waited when another was let in had no better place, and all were done."""
    rows = party.world.rows(
        "SELECT r.id, r.created_at, e.data FROM flows_runs r JOIN flows_events e ON e.id = r.event_id "
        "WHERE r.flow = :flow",
        flow=f"witnessed.{kind}",
    )
    rank = {run_id: at - json.loads(data)["head"] * SECOND for run_id, at, data in rows}
    made = sorted(((at, run_id) for run_id, at, _ in rows), reverse=True)
    came = sorted(
        (at * SECOND, run_id)
        for user in USERS
        for run_id, at in party.counter.zrange(f"started:{kind}:{user}", 0, -1, withscores=True)
    )
    assert len(came) == party.sent[kind]
    waiting: list[tuple[int, str]] = []
    gone: set[str] = set()
    compared = 0
    for (at, first), (_, one) in pairwise(came):
        gone.add(first)
        # Each was let in when the one before it had left: who was there before that one came has waited since.
        while made and made[-1][0] < at - SECOND // 5:
            run_id = made.pop()[1]
            heappush(waiting, (rank[run_id], run_id))
        while waiting and waiting[0][1] in gone:
            heappop(waiting)
        if waiting:
            compared += 1
            assert rank[one] <= waiting[0][0], (one, waiting[0])
    assert compared >= party.sent[kind] // 4
    assert party.ends(kind) == {"completed": party.sent[kind]}


def the_newest_in_one_batch(party: Party, kind: str) -> None:
    """Debounce with batch: each window's newest event is in one batch of at most five, the last of each value too."""
    into = {no: party.counter.smembers(f"into:{kind}:{no}") for no in range(party.sent[kind])}
    seen = {no for no, runs in into.items() if runs}
    assert {len(into[no]) for no in seen} == {1}
    assert set(party.newest[kind].values()) <= seen
    sizes = [int(size) for _, size in party.counter.zrange(f"sizes:{kind}", 0, -1, withscores=True)]
    assert (sum(sizes), max(sizes) > 1, max(sizes) <= BATCH) == (len(seen), True, True)
    ends = party.ends(kind)
    assert ends == {"completed": len(sizes), "skipped": len(seen) - len(sizes)}
    assert len(seen) < party.sent[kind]


def the_newest_and_no_more(party: Party, kind: str) -> None:
    """Debounce: the last event of each value is in a run, and between two runs of a value there is a second."""
    seen = {value: int(no) for value, no in party.counter.zrange(f"newest:{kind}", 0, -1, withscores=True)}
    assert seen == party.newest[kind]
    rows = party.world.rows(
        "SELECT e.data, r.created_at, r.status FROM flows_runs r JOIN flows_events e ON e.id = r.event_id "
        "WHERE r.flow = 'witnessed.debounce' ORDER BY r.created_at"
    )
    assert {row[2] for row in rows} == {"completed"}
    runs = {value: party.counter.scard(f"runs:{kind}:{value}") for value in seen}
    took = max(at for user in USERS for at in party.starts(kind, user) or [0.0])
    assert max(runs.values()) <= took + 1, (runs, took)


def each_in_one_batch(party: Party, kind: str) -> None:
    into = {no: party.counter.smembers(f"into:{kind}:{no}") for no in range(party.sent[kind])}
    assert {len(runs) for runs in into.values()} == {1}
    sizes = [int(size) for _, size in party.counter.zrange(f"sizes:{kind}", 0, -1, withscores=True)]
    assert (sum(sizes), max(sizes)) == (party.sent[kind], BATCH)
    assert party.ends(kind) == {"completed": len(sizes)}


CHECKS: dict[str, Callable[[Party, str], None]] = {
    **dict.fromkeys(PLACES, nobody_was_too_many),
    "throttle": throttled,
    "rate_limit": rated,
    "idempotency": once_each,
    "debounce": the_newest_and_no_more,
    "batch": each_in_one_batch,
    "replacing": one_takes_the_place_of_another,
    "priority": in_order_of_rank,
    "debounced_batch": the_newest_in_one_batch,
    "paced_task": throttled,
}
WITNESSED = [*LIMITS, *TASKS]


@contextmanager
def a_party(world: World, patch: pytest.MonkeyPatch, sheet: Sheet = witnessed.sheet) -> Iterator[Party]:
    """Its workers, and its witness in a database of the broker that holds nothing else."""
    url = f"{world.broker.rpartition('/')[0]}/{COUNTER_DATABASE}"
    patch.setenv("COUNTER", url)
    with ExitStack() as stack:
        counter = stack.enter_context(Redis.from_url(url, decode_responses=True))
        counter.flushdb()
        yield Party(world, stack, counter, sheet)


@pytest.fixture
def party(
    request: pytest.FixtureRequest, make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Party]:
    world = make_world(request.param, worker_disable_prefetch=True, **BRISK)
    with a_party(world, monkeypatch) as party:
        yield party


def holds(party: Party, kind: str) -> bool:
    try:
        CHECKS[kind](party, kind)
    except AssertionError:
        return False
    return True


def nothing_is_left(party: Party) -> None:
    for table, which in (
        ("slots", "run_id IS NOT NULL"),
        ("queue", "true"),
        ("debounces", "true"),
        ("batches", "true"),
    ):
        assert party.world.rows(f"SELECT * FROM flows_{table} WHERE {which}") == []


@pytest.mark.parametrize("party", ["postgres"], indirect=True)
@pytest.mark.timeout(240)
def test_every_limit_holds_while_workers_are_killed(party: Party) -> None:
    party.play(WITNESSED, 40, kills=2)
    for kind, check in CHECKS.items():
        check(party, kind)
    nothing_is_left(party)


@pytest.mark.timeout(240)
def test_without_its_limit_each_kind_is_seen_to_fail(
    make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNLIMITED", "yes")
    # A rate that the slowest machine exceeds.
    for name in ("RATE", "ALLOWED"):
        monkeypatch.setattr(f"{__name__}.{name}", 1)
    world = make_world("sqlite", worker_disable_prefetch=True, **BRISK)
    with a_party(world, monkeypatch, witnessed.unlimited) as party:
        for kind in WITNESSED:
            party.play([kind], 80, kills=0)
            # Plain tasks without a limit have no runs that could be open.
            eventually(lambda kind=kind: sum(len(party.starts(kind, user)) for user in USERS) >= 80, within=60)
        assert [kind for kind in WITNESSED if holds(party, kind)] == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("party", KINDS, indirect=True)
@pytest.mark.parametrize("kind", WITNESSED)
def test_a_limit_holds_over_5_000_runs_and_their_kills(party: Party, kind: str) -> None:
    party.play([kind], int(os.environ.get("LIMIT_RUNS", "5000")), kills=6)
    CHECKS[kind](party, kind)
    nothing_is_left(party)
    figures: dict[str, Any] = {"kind": kind, "store": party.world.store.dialect.name, **party.ends(kind)}
    print(figures, {name: int(n) for name, n in party.counter.zrange("most", 0, -1, withscores=True)})  # noqa: T201
