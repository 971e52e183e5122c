"""What must hold when a world has come to rest: ends, counts, and what each wait was answered with."""

import json
import re
from dataclasses import dataclass
from typing import Any

from tests.simulation.admission import check_admission
from tests.simulation.facts import Run, line_of, runs_of
from tests.simulation.links import check_cancels, check_children, check_signals
from tests.simulation.plain import evaluate
from tests.simulation.programs import LOST, Block, Gather, Group, Loop, Try, Wait
from tests.simulation.world import World

MOST_LOSSES = 10


def check(world: World) -> None:
    """Raise AssertionError for the first law that is broken."""
    world.ledger.check()
    runs = runs_of(world)
    check_starts(world, runs)
    for run in runs.values():
        check_end(world, run, len(line_of(runs, run)) - 1)
    check_counts(world, runs)
    check_leftovers(world)
    for run in runs.values():
        check_sends(world, run)
        check_waits(world, run, _waits(world.programs[run.number].body))
    check_cancels(world, runs)
    check_children(world, runs)
    check_signals(world)


def check_starts(world: World, runs: dict[str, Run]) -> None:
    """Each program that an event starts has one run, and those that go on for it."""
    first = [
        run.number
        for run in runs.values()
        if run.parent is None and run.continued_from is None and run.status != "skipped"
    ]
    once = [number for number in world.roots if world.programs[number].admits is None]
    found = sorted(number for number in first if number in once)
    assert found == once, f"runs of programs {found}, started {once}"
    for number in world.roots:
        if (kind := world.programs[number].admits) is not None:
            check_admission(world, runs, number, kind)


def check_end(world: World, run: Run, times: int) -> None:
    """It ends as its plain reading, or cancelled, or as its worker died too often. Its handler was given its event."""
    assert run.wake_at is None, f"{run.id} is {run.status} and would wake again"
    given = world.ledger.given_events.get(run.id, [run.data["n"]])
    assert run.batch is not None or given == [run.data["n"]], f"{run.id} was given {given}, its event is {run.data}"
    if run.status in ("cancelled", "skipped"):
        return
    found = run.end
    if found.error is not None and found.error[0] == "WorkerLost":
        assert world.ledger.disturbed[run.id] >= MOST_LOSSES
        return
    expected = evaluate(world.programs[run.number], world.ledger.seen[run.id], times)
    assert found == expected, f"run {run.id} of {run.number} gave {found}, the plain reading {expected}"


def check_counts(world: World, runs: dict[str, Run]) -> None:
    """A body runs once for each attempt, and once more for each turn that was cut off, or cancelled meanwhile."""
    attempts = {(run, key): n for run, key, n in world.look("SELECT run_id, key, attempts FROM flows_steps")}
    for (run, key), n in world.ledger.bodies.items():
        most = attempts.get((run, key), 0) + world.ledger.disturbed[run] + (runs[run].status == "cancelled")
        assert n <= most, f"the body of {key} ran {n} times, at most {most}"
    for run, seen in world.ledger.seen.items():
        if ("error", "RuntimeError", LOST) in seen.values():
            assert world.ledger.disturbed[run] >= 2, f"{run} was charged with losses that it never had"
    for run, lost in world.look("SELECT id, lost FROM flows_runs"):
        assert lost <= world.ledger.disturbed[run], (
            f"{run} counts {lost} lost turns, and had {world.ledger.disturbed[run]}"
        )


def check_leftovers(world: World) -> None:
    """Nothing waits for ever."""
    assert world.look("SELECT key FROM flows_waits WHERE state = 'open'") == []
    assert world.look("SELECT id FROM flows_runs WHERE ended_at IS NULL") == []
    assert world.look("SELECT run_id FROM flows_queue") == []
    assert world.look("SELECT run_id, path FROM flows_branches WHERE ended_at IS NULL") == []


def check_sends(world: World, run: Run) -> None:
    """What a step sent is there once when it is recorded, else not at all."""
    sent: dict[str, list[int]] = {}
    by = f"send {run.id} "
    for (data,) in world.look("SELECT data FROM flows_events WHERE name LIKE 'news/%'"):
        event = json.loads(data)
        if event["by"].startswith(by):
            sent.setdefault(event["by"].removeprefix(by), []).append(event["n"])
    memos = world.look("SELECT key, value FROM flows_steps WHERE run_id = :run AND kind = 'send'", run=run.id)
    expected = {key: len(json.loads(value)) for key, value in memos}
    found = {key: len(numbers) for key, numbers in sent.items()}
    assert found == expected, f"steps that sent: {found}, recorded: {expected}"


@dataclass(frozen=True)
class Arrival:
    """An event as it arrived."""

    id: str
    at: int
    of: Any
    n: int


def check_waits(world: World, its: Run, ops: dict[str, Wait]) -> None:
    """A wait gets the first event that it may see; None only when there was none in its time."""
    ledger, run = world.ledger, its.id
    for key, seen in ledger.seen[run].items():
        op = ops.get(re.sub(r":\d+", "", key))
        if op is None:
            continue
        began, until = _span(world, run, key, op)
        eligible = [one for one in _arrivals(world, its, op, key) if began <= one.at < until]
        if seen[1] is None:
            assert ledger.given_at[run, key] >= until, f"wait {key} timed out too early"
            assert not eligible, f"wait {key} of {run} missed {eligible[0]} between {began} and {until}"
        else:
            at = world.look("SELECT arrived_at FROM flows_events WHERE id = :id OR ext_id = :id", id=seen[1][3])[0][0]
            earlier = [one for one in eligible if one.at < at]
            assert not earlier, f"wait {key} of {run} took {seen[1]} before {earlier[0]}"


def _span(world: World, run: str, key: str, op: Wait) -> tuple[int, int]:
    """From when on the wait surely looks, and until when it is surely open."""
    ledger = world.ledger
    ((armed_at,),) = world.look("SELECT armed_at FROM flows_waits WHERE run_id = :run AND key = :key", run=run, key=key)
    until = ledger.reached[run, key] + op.seconds * 1_000_000
    ((started_at,),) = world.look("SELECT started_at FROM flows_runs WHERE id = :run", run=run)
    if op.lookback == "wait":
        return armed_at + 1, until
    if op.lookback == "run":
        return started_at, until
    began = dict(world.look("SELECT key, began FROM flows_steps WHERE run_id = :run", run=run))
    found = [ledger.began.get((run, one), began.get(one, armed_at + 1)) for one in ledger.before[run, key]]
    return min(found, default=started_at), until


def _arrivals(world: World, run: Run, op: Wait, key: str) -> list[Arrival]:
    """What the wait would take, without what other waits of the run took."""
    found = []
    rows = world.look(
        "SELECT id, arrived_at, data FROM flows_events WHERE name = :name AND arrived_at IS NOT NULL AND NOT EXISTS "
        "(SELECT 1 FROM flows_waits w WHERE w.run_id = :run AND w.key <> :key AND w.event_id = flows_events.id) "
        "ORDER BY arrived_at, id",
        name=op.name,
        run=run.id,
        key=key,
    )
    for id, at, data in rows:
        event = json.loads(data)
        fits = {"own": event["of"] == run.data["of"], "even": event["n"] % 2 == 0, "any": True}[op.only]
        if fits:
            found.append(Arrival(id, at, event["of"], event["n"]))
    return found


def _waits(block: Block, path: str = "") -> dict[str, Wait]:
    """The waits of a program by their ids; ids of waits name one wait each."""
    found: dict[str, Wait] = {}
    for op in block:
        match op:
            case Wait():
                found[path + op.id] = op
            case Loop():
                found |= _waits(op.body, path)
            case Try():
                found |= _waits(op.body, path) | _waits(op.handler, path) | _waits(op.final, path)
            case Gather():
                for i, branch in enumerate(op.branches):
                    found |= _waits(branch, f"{path}{i}.")
            case Group():
                for i, branch in enumerate(op.branches):
                    found |= _waits(branch, f"{path}group[{i}]/")
            case _:
                pass
    return found
