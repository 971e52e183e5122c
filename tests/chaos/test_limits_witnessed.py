"""Every kind of limit over four real workers that are killed on the way: never exceeded, nothing lost, as told by a
witness in Redis that the steps speak to."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from celery import Celery
from redis import Redis

from celeryflows import Event
from tests.acceptance.crew import Crew
from tests.celery.apps import witnessed
from tests.celery.apps.witnessed import ALLOWED, BATCH, BURST, LIMITS, PLACES, RATE
from tests.kinds import KINDS
from tests.waiting import eventually
from tests.worlds import BRISK, World

USERS = [f"u{n}" for n in range(10)]
COUNTER_DATABASE = 13


class Party:
    """Four workers of two processes, what was sent to them, and the witness."""

    def __init__(self, world: World, stack: ExitStack, counter: Redis) -> None:
        self.world, self.counter = world, counter
        self.app: Celery = world.app(witnessed.sheet)
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
            data = [{"no": no, "user": USERS[no % len(USERS)], "value": f"v{no % values}"} for no in numbers]
            self.app.flows.send([Event(f"seen/{kind}", one) for one in data])  # type: ignore[attr-defined]
            self.newest.setdefault(kind, {}).update({one["value"]: one["no"] for one in data})
        self.sent[kind] += count

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
    done = {"completed", "skipped"} if kind == "singleton" else {"completed"}
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
}


@pytest.fixture
def party(
    request: pytest.FixtureRequest, make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Party]:
    world = make_world(request.param, worker_disable_prefetch=True, **BRISK)
    url = f"{world.broker.rpartition('/')[0]}/{COUNTER_DATABASE}"
    monkeypatch.setenv("COUNTER", url)
    with ExitStack() as stack:
        counter = stack.enter_context(Redis.from_url(url, decode_responses=True))
        counter.flushdb()
        yield Party(world, stack, counter)


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
    party.play(list(LIMITS), 40, kills=2)
    for kind, check in CHECKS.items():
        check(party, kind)
    nothing_is_left(party)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("party", KINDS, indirect=True)
@pytest.mark.parametrize("kind", list(LIMITS))
def test_a_limit_holds_over_5_000_runs_and_their_kills(party: Party, kind: str) -> None:
    party.play([kind], int(os.environ.get("LIMIT_RUNS", "5000")), kills=6)
    CHECKS[kind](party, kind)
    nothing_is_left(party)
    figures: dict[str, Any] = {"kind": kind, "store": party.world.store.dialect.name, **party.ends(kind)}
    print(figures, {name: int(n) for name, n in party.counter.zrange("most", 0, -1, withscores=True)})  # noqa: T201
