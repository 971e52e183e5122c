"""The limits that a flow may have, each with what a run of it has to show: who was inside, and what became of events.

The laws look at the same traffic, so that any two may be asked of one flow; without its limit each is broken."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from typing import Any

from celeryflows import Batch, Concurrency, Debounce, Event, Priority, RateLimit, Singleton, Throttle
from tests.engine.world import World

EVENT, USER, DOC = "doc/edited", "event.data.user", "event.data.doc"
OPTIONS: dict[str, dict[str, Any]] = {
    "one concurrency": {"concurrency": Concurrency(1, key=USER)},
    "two concurrencies": {"concurrency": [Concurrency(1, key=USER), Concurrency(2)]},
    "shared concurrency": {"concurrency": Concurrency(1, key="'till'", scope="app")},
    "throttle": {"throttle": Throttle(1, "1s", key=USER, burst=2)},
    "rate_limit": {"rate_limit": RateLimit(2, "1m", key=USER)},
    "debounce": {"debounce": Debounce("5s", key=DOC, timeout="1m")},
    "batch": {"batch": Batch(2, "5s", key=USER)},
    "priority": {"priority": Priority("event.data.head")},
    "singleton that skips": {"singleton": Singleton("skip", key=USER)},
    "singleton that cancels": {"singleton": Singleton("cancel", key=USER)},
    "idempotency": {"idempotency": "event.data.value"},
}
SECOND = 1_000_000
QUIET = 5 * SECOND
# The most that any of the limits lets in of a user at one moment.
AT_ONCE = 2
# What may end with an event in no handler, or cut a handler short.
DROPS = {"rate_limit", "singleton that skips", "singleton that cancels", "idempotency"}


@dataclass(frozen=True)
class Turn:
    """A turn of a run as its handler saw it: when, with which events, and whose runs had been let in by then."""

    at: int
    run_id: str
    events: list[dict[str, Any]]
    inside: Counter[str]


@dataclass
class Traffic:
    """What was sent, what the handlers saw, and how the runs stand in the end."""

    pair: tuple[str, ...]
    sent: dict[int, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    turns: list[Turn] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def starts(self) -> list[Turn]:
        """The first turn of each run."""
        return list({turn.run_id: turn for turn in reversed(self.turns)}.values())[::-1]

    @property
    def seen(self) -> Counter[int]:
        """How many runs have started with each event."""
        return Counter(event["n"] for turn in self.starts for event in turn.events)

    def is_dropped(self) -> bool:
        """True when a limit of these may leave events out."""
        return bool(DROPS & set(self.pair))


def played(world: World, pair: tuple[str, ...]) -> Traffic:
    """Three users edit four documents each, four times in ten seconds and once more later; until all is quiet."""
    traffic = Traffic(pair)
    options = {name: value for option in pair for name, value in OPTIONS[option].items()}

    def handler(ctx: Any) -> None:
        events = [event.data for event in ctx.events]
        traffic.turns.append(Turn(world.clock.now(), ctx.run_id, events, _inside(world)))
        ctx.step.sleep("nap", "2s")

    world.flow(name="shop.index", trigger=EVENT, **options)(handler)
    shared = {"concurrency": options["concurrency"]} if "shared concurrency" in pair else {}
    world.flow(name="shop.other", trigger=EVENT, **shared)(lambda ctx: None)
    world.start_worker()
    for wait in (1, 3, 6, 40, 20):
        _send(world, traffic)
        world.advance(f"{wait}s")
    world.advance("10m")
    columns = ("id", "status", "reason", "priority", "created_at", "started_at", "ended_at")
    rows = world.store_rows(f"SELECT {', '.join(columns)} FROM flows_runs WHERE flow = 'shop.index' ORDER BY id")
    traffic.runs = [dict(zip(columns, row, strict=True)) for row in rows]
    return traffic


def _send(world: World, traffic: Traffic) -> None:
    events = []
    # Later than all that was due by now.
    world.tick()
    for user in "abc":
        for doc in (f"{user}{number}" for number in range(4)):
            n = len(traffic.sent)
            data = {"n": n, "user": user, "doc": doc, "head": n * 7 % 5, "value": f"{doc} {n // 24}"}
            traffic.sent[n] = (world.clock.now(), data)
            events.append(Event(EVENT, data))
    world.flows.send(events)
    world.run_due()


def _inside(world: World) -> Counter[str]:
    rows = world.store_rows(
        "SELECT e.data, r.flow FROM flows_runs r JOIN flows_events e ON e.id = r.event_id "
        "WHERE r.status = 'running' OR (r.status = 'queued' AND r.held_at IS NULL)"
    )
    counts = Counter(data.split('"user":"')[1][0] for data, flow in rows if flow == "shop.index")
    counts["all"], counts["app"] = counts.total(), len(rows)
    return counts


# -- the laws


def _most(traffic: Traffic, who: str) -> int:
    return max(turn.inside[who] for turn in traffic.turns)


def one_of_a_user(traffic: Traffic) -> None:
    """Concurrency by user."""
    assert max(_most(traffic, user) for user in "abc") == 1


def one_of_a_user_two_in_all(traffic: Traffic) -> None:
    """Two limits of concurrency."""
    one_of_a_user(traffic)
    assert _most(traffic, "all") == 2


def one_in_the_app(traffic: Traffic) -> None:
    """Concurrency that two flows share."""
    assert _most(traffic, "app") == 1


def paced(traffic: Traffic) -> None:
    """Throttle: of each user two at once, then one a second; nobody is left out by it."""
    for user in "abc":
        starts = [turn.at for turn in traffic.starts if turn.events[0]["user"] == user]
        assert starts
        for (i, first), (j, last) in combinations(enumerate(starts), 2):
            # The leader may make up for a fifth of a gap.
            assert j - i + 1 <= 2 + (last - first) / SECOND + 0.2, (user, starts)


def rated(traffic: Traffic) -> None:
    """Rate limit: of each user two at once, then one each half minute; the others are skipped and say so."""
    let_in: Counter[tuple[str, int]] = Counter()
    for n in traffic.seen:
        sent_at, event = traffic.sent[n]
        let_in[event["user"], sent_at] += 1
    began = min(at for at, _ in traffic.sent.values())
    for user in "abc":
        count = 0
        for (who, at), more in sorted(let_in.items(), key=lambda one: one[0][1]):
            if who == user:
                count += more
                assert count <= 2 + (at - began) // (30 * SECOND), (user, let_in)
    assert any((run["reason"] or "").startswith("rate limit") for run in traffic.runs)


def quiet(traffic: Traffic) -> None:
    """Debounce: of a document's edits only one starts a run that nothing followed within five seconds, and if no other
    limit leaves some out each of those does."""
    for doc in {event["doc"] for _, event in traffic.sent.values()}:
        edits = [(at, n) for n, (at, event) in traffic.sent.items() if event["doc"] == doc]
        newest = {n for (at, n), (after, _) in pairwise([*edits, (edits[-1][0] + QUIET, -1)]) if after - at >= QUIET}
        if "rate_limit" not in traffic.pair:
            seen = {n for n in traffic.seen if traffic.sent[n][1]["doc"] == doc}
            assert seen <= newest, (doc, seen, newest)
            assert traffic.is_dropped() or seen == newest, (doc, seen, newest)
    starts = [turn.at for turn in traffic.starts]
    first = min(at for at, _ in traffic.sent.values())
    assert min(starts) >= first + QUIET


def in_twos(traffic: Traffic) -> None:
    """Batch: two events of one user, or what there was after five seconds."""
    assert {len(turn.events) for turn in traffic.starts} <= {1, 2}
    assert all(len({event["user"] for event in turn.events}) == 1 for turn in traffic.starts)
    assert any(len(turn.events) == 2 for turn in traffic.starts)
    assert max(traffic.seen.values()) == 1


def with_head_start(traffic: Traffic) -> None:
    """Priority: each run has that of the event that it starts with, and by it its place among those that wait."""
    of_run = {run["id"]: run["priority"] or 0 for run in traffic.runs}
    assert {turn.run_id: turn.events[0]["head"] * SECOND for turn in traffic.starts}.items() <= of_run.items()
    if {"throttle", "one concurrency", "two concurrencies", "shared concurrency"} & set(traffic.pair):
        in_order(traffic)


def in_order(traffic: Traffic) -> None:
    """Who waited when another was let in, from the same line, had no better place."""
    created = {run["id"]: run["created_at"] for run in traffic.runs}
    compared = 0
    for line in ["abc"] if "shared concurrency" in traffic.pair else "abc":
        came: Counter[int] = Counter()
        mine = [turn for turn in traffic.starts if turn.events[0]["user"] in line]
        for i, one in enumerate(mine):
            came[created[one.run_id]] += 1
            if came[created[one.run_id]] <= AT_ONCE:
                # It may have come to a limit with room, and waited for nobody.
                continue
            waited = [other for other in mine[i + 1 :] if created[other.run_id] <= max(created[one.run_id], one.at - 1)]
            compared += len(waited)
            assert all(_rank(created, one) <= _rank(created, other) for other in waited)
    assert compared


def _rank(created: dict[str, int], turn: Turn) -> int:
    return created[turn.run_id] - turn.events[0]["head"] * SECOND


def never_two(traffic: Traffic) -> None:
    """Singleton: of a user one run at a time, sleeping included."""
    user = {turn.run_id: turn.events[0]["user"] for turn in traffic.turns}
    for one in "abc":
        spans = sorted((r["started_at"], r["ended_at"]) for r in traffic.runs if user.get(r["id"]) == one)
        assert spans
        assert all(before[1] <= after[0] for before, after in pairwise(spans)), spans


def the_newest_survives(traffic: Traffic) -> None:
    """A singleton that cancels: never two, and what came last is not what was cancelled."""
    never_two(traffic)
    assert any(run["status"] == "cancelled" for run in traffic.runs)
    last = {event["user"]: n for n, (_, event) in traffic.sent.items()}
    ended = {run["id"]: run["status"] for run in traffic.runs}
    if not {"rate_limit", "idempotency", "debounce"} & set(traffic.pair):
        done = {event["n"] for turn in traffic.starts if ended[turn.run_id] == "completed" for event in turn.events}
        assert set(last.values()) <= done


def once_a_value(traffic: Traffic) -> None:
    """Idempotency: a value starts one run, and its repeats say so."""
    values = Counter(traffic.sent[n][1]["value"] for n in traffic.seen.elements())
    assert set(values.values()) == {1}
    if "rate_limit" not in traffic.pair:
        assert any((run["reason"] or "").startswith("duplicate") for run in traffic.runs)


LAWS: dict[str, Callable[[Traffic], None]] = {
    "one concurrency": one_of_a_user,
    "two concurrencies": one_of_a_user_two_in_all,
    "shared concurrency": one_in_the_app,
    "throttle": paced,
    "rate_limit": rated,
    "debounce": quiet,
    "batch": in_twos,
    "priority": with_head_start,
    "singleton that skips": never_two,
    "singleton that cancels": the_newest_survives,
    "idempotency": once_a_value,
}
