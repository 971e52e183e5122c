"""Flows that many events start, each under a limit of one kind or two, and what became of these events."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby, pairwise
from typing import Any

from celeryflows.durations import DAY, SECOND
from tests.simulation.facts import Run
from tests.simulation.kinds import CAP, FREE, GATHERING, MOST, PERIOD, QUIET, SIZE
from tests.simulation.world import World

# Nobody dies any more: what is due is done within so long.
SOON = 40 * SECOND
EVENTS = """
SELECT id, ext_id, arrived_at, ts, data FROM flows_events WHERE name = :name AND arrived_at IS NOT NULL
ORDER BY arrived_at, id
"""
INSIDE = "SELECT run_id, event_id, no FROM flows_batch_events WHERE no >= 0 ORDER BY run_id, no"


@dataclass(frozen=True)
class Sent:
    """An event that was accepted, and the number that its data has."""

    id: str
    ext_id: str
    at: int
    ts: int
    n: int
    k: int


@dataclass(frozen=True)
class Crowd:
    """The events of one program and one key in the order in which they came, and the runs of these."""

    world: World
    events: Sequence[Sent]
    runs: Sequence[Run]

    @property
    def started(self) -> list[Run]:
        """Those that no limit skipped, in the order of their creation."""
        return [run for run in self.runs if run.status != "skipped"]

    def ended_by(self, at: int) -> int:
        """Until when what is due at a moment is surely done."""
        return max(at, self.world.fair_since or 0) + SOON


def check_admission(world: World, runs: dict[str, Run], number: int, kind: str) -> None:
    """Each accepted event of the program is accounted for once, as its limit promises."""
    events = _events(world, number)
    there = {one.ext_id for one in events}
    assert world.crowds.accepted[number] <= there, f"accepted and not there: {world.crowds.accepted[number] - there}"
    own = [run for run in runs.values() if run.number == number]
    first = {one.ext_id: one for one in reversed(events)}
    repeats = [run for run in own if run.status == "skipped" and run.event_id not in {one.id for one in first.values()}]
    assert all((run.reason or "").startswith("duplicate: event id") for run in repeats), repeats
    rest = [run for run in own if run not in repeats]
    for k in (0, 1):
        its = [one for one in sorted(first.values(), key=lambda one: (one.at, one.id)) if one.k == k]
        of_key = sorted((run for run in rest if run.data["k"] == k), key=lambda run: (run.created_at, run.id))
        law_of(kind)(Crowd(world, its, of_key))


def _events(world: World, number: int) -> list[Sent]:
    rows = world.look(EVENTS, name=f"start/{number}")
    return [Sent(id, ext, at, ts, *_numbers(data)) for id, ext, at, ts, data in rows]


def _numbers(text: str) -> tuple[int, int]:
    data: dict[str, Any] = json.loads(text)
    return data["n"], data["k"]


def _one_each(crowd: Crowd) -> None:
    """Each event has one run of its own, or was skipped as one."""
    assert sorted(run.event_id for run in crowd.runs) == sorted(one.id for one in crowd.events), (
        f"events {crowd.events}, runs {crowd.runs}"
    )


def _singleton_skips(crowd: Crowd) -> None:
    _one_each(crowd)
    for one, other in pairwise(crowd.started):
        assert one.ended_at <= other.created_at, f"{one.id} and {other.id} of one key were open at once"
    for run in crowd.runs:
        if run.status == "skipped":
            there = [one for one in crowd.started if one.created_at <= run.created_at < one.ended_at]
            assert there, f"{run.id} was skipped though nothing was there: {run.reason}"


def _singleton_cancels(crowd: Crowd) -> None:
    _one_each(crowd)
    for one, other in pairwise(crowd.started):
        if one.ended_at > other.created_at:
            # Who is at work may come to its end before the cancel does. Nobody begins another turn.
            is_at_work = one.id in crowd.world.crowds.at_work.get(other.id, ())
            assert one.status == "cancelled" or is_at_work, f"{one.id} went on beside {other.id}"
            assert one.ended_at <= crowd.ended_by(other.created_at), f"{one.id} ended late"
    for run in crowd.runs:
        assert run.status != "skipped", f"{run.id} was skipped: {run.reason}"
        if (run.reason or "").startswith("singleton"):
            newer = [one for one in crowd.started if one.created_at >= run.created_at and one != run]
            assert any(one.id in (run.reason or "") for one in newer), f"{run.id}: {run.reason}"


def _rate(crowd: Crowd) -> None:
    """A bucket of so many starts that fills evenly."""
    _one_each(crowd)
    by_event = {run.event_id: run for run in crowd.runs}
    level, before = Fraction(MOST), 0
    for one in crowd.events:
        level = min(Fraction(MOST), level + Fraction((one.at - before) * MOST, PERIOD * SECOND))
        before = one.at
        passes = level >= 1
        level -= passes
        run = by_event[one.id]
        assert (run.status != "skipped") == passes, f"{run.id} at {one.at} is {run.status}, with {level} left"


def _throttle(crowd: Crowd) -> None:
    """Starts are seen late, never early: no more of them in any time than fit into it, made up for a slow leader."""
    _one_each(crowd)
    assert all(run.status != "skipped" for run in crowd.runs), "a throttle skips nothing"
    gap = Fraction(PERIOD * SECOND, MOST) * Fraction(4, 5)
    seen = crowd.world.crowds.let_in
    spans = sorted((seen[run.id] for run in crowd.started if run.id in seen), key=lambda span: span[1])
    for i, (since, _) in enumerate(spans):
        for j, (_, until) in enumerate(spans[i:], 1):
            fit = 3 + int((until - since) / gap)
            assert j <= fit, f"{j} starts between {since} and {until}, at most {fit}"


def _debounce(crowd: Crowd) -> None:
    assert all(run.status != "skipped" for run in crowd.runs), "a debounce skips nothing"
    _newest(crowd)


def _newest(crowd: Crowd) -> None:
    """Of the events that came since a run was created, and before the next one was, the newest is its own."""
    assert bool(crowd.events) == bool(crowd.runs), "events and no run, or a run and no event"
    bounds = [*(run.created_at for run in crowd.runs[1:]), 1 << 62]
    for run, until in zip(crowd.runs, bounds, strict=False):
        its = [one for one in crowd.events if run.created_at <= one.at < until]
        newest = max(its, key=lambda one: (one.ts, one.at, one.id))
        assert run.event_id == newest.id, f"{run.id} starts with {run.data}, the newest is {newest}"
        _not_before(run, _quiet(crowd, run))
    if crowd.runs and crowd.runs[0].created_at > crowd.events[0].at:
        raise AssertionError(f"no run was created for {crowd.events[0]}")


def _quiet(crowd: Crowd, run: Run) -> int:
    """When a debounce fires at the earliest."""
    arrived = {one.id: one.at for one in crowd.events}
    return min(arrived[run.event_id] + QUIET * SECOND, run.created_at + CAP * SECOND)


def _not_before(run: Run, at: int) -> None:
    if run.started_at is not None:
        assert run.started_at >= at, f"{run.id} started {at - run.started_at} us too early"


def _batch(crowd: Crowd) -> None:
    assert all(run.status != "skipped" for run in crowd.runs), "a batch skips nothing"
    _gathered(crowd, [one.id for one in crowd.events], lambda run: run.created_at)


def _debounced_batch(crowd: Crowd) -> None:
    """What is debounced goes into a batch, where one is open, and its own run is none then."""
    _newest(crowd)
    for run in crowd.runs:
        assert run.status != "skipped" or (run.reason or "").startswith("joined run "), f"{run.id}: {run.reason}"
    _gathered(crowd, [run.event_id for run in crowd.runs], lambda run: _quiet(crowd, run))


def _gathered(crowd: Crowd, events: Sequence[str], since: Callable[[Run], int]) -> None:
    """One batch after the other has all events in their order; it gathers `since` a moment."""
    inside = {
        run: [event for _, event, _ in rows] for run, rows in groupby(crowd.world.look(INSIDE), key=lambda row: row[0])
    }
    found = [event for run in crowd.started for event in inside.get(run.id, [])]
    assert found == events, f"{events} are in batches as {inside}"
    numbers = {one.id: one.n for one in crowd.events}
    for run in crowd.started:
        its = inside[run.id]
        assert len(its) <= SIZE, f"{run.id} has {len(its)} events"
        if len(its) < SIZE:
            _not_before(run, since(run) + GATHERING * SECOND)
        told = crowd.world.ledger.given_events.get(run.id)
        assert told in (None, [numbers[one] for one in its]), f"{run.id} was given {told}, and has {its}"


def _idempotency(crowd: Crowd) -> None:
    _one_each(crowd)
    for one, other in pairwise(crowd.started):
        assert other.created_at - one.created_at >= DAY, f"{one.id} and {other.id} have one idempotency key"
    assert bool(crowd.started) == bool(crowd.events), "all of one key were skipped"


def _held(crowd: Crowd) -> None:
    """Who was let in before whom, where that matters, the world looks at itself."""
    _one_each(crowd)
    assert all(run.status != "skipped" for run in crowd.runs), "concurrency and throttle skip nothing"


LAWS: dict[str, Callable[[Crowd], None]] = {
    "singleton skip": _singleton_skips,
    "singleton cancel": _singleton_cancels,
    "rate limit": _rate,
    "throttle": _throttle,
    "debounce": _debounce,
    "batch": _batch,
    "idempotency": _idempotency,
    FREE: _held,
    "priority": _held,
    "debounce, batch": _debounced_batch,
    # Behind the throttle they wait again, and may come in together.
    "throttle, one at a time": _held,
}


def law_of(kind: str) -> Callable[[Crowd], None]:
    """That of both limits together, or of the first."""
    return LAWS[kind] if kind in LAWS else LAWS[kind.split(", ")[0]]
