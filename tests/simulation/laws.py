"""What must hold when a world has come to rest: ends, counts, and what each wait was answered with."""

import json
import re
from dataclasses import dataclass
from typing import Any

from celeryflows.codec import loads
from tests.simulation.plain import End, evaluate
from tests.simulation.process import flow_name
from tests.simulation.programs import LOST, Block, Gather, Group, Loop, Try, Wait
from tests.simulation.world import World

RUNS = "SELECT id, flow, status, output, error, reason, wake_at FROM flows_runs WHERE status <> 'skipped'"
MOST_LOSSES = 10


def check(world: World) -> None:
    """Raise AssertionError for the first law that is broken."""
    world.ledger.check()
    runs = {row[1]: row for row in world.look(RUNS)}
    assert sorted(runs) == [flow_name(i) for i in range(len(world.programs))], f"runs: {sorted(runs)}"
    assert world.look("SELECT count(*) FROM flows_runs WHERE status <> 'skipped'") == [(len(runs),)]
    for number, program in enumerate(world.programs):
        run, _, status, output, error, _, wake_at = runs[flow_name(number)]
        assert wake_at is None, f"{run} is {status} and would wake again"
        if status == "cancelled":
            assert run in world.cancelled, f"{run} was cancelled by nobody"
            continue
        found = End(value=loads(output)) if status == "completed" else End(error=_error(error))
        if found.error is not None and found.error[0] == "WorkerLost":
            assert world.ledger.disturbed[run] >= MOST_LOSSES
            continue
        expected = evaluate(program, world.ledger.seen[run])
        assert found == expected, f"run {number} gave {found}, the plain reading {expected}"
    check_counts(world)
    check_leftovers(world)
    for number, program in enumerate(world.programs):
        check_sends(world, number, runs[flow_name(number)][0])
        check_waits(world, runs[flow_name(number)][0], _waits(program.body))


def _error(text: str) -> tuple[str, str]:
    failure = json.loads(text)
    return failure["name"], failure["message"]


def check_counts(world: World) -> None:
    """A body runs once for each attempt, and once more for each turn that was cut off."""
    attempts = {(run, key): n for run, key, n in world.look("SELECT run_id, key, attempts FROM flows_steps")}
    for (run, key), n in world.ledger.bodies.items():
        most = attempts.get((run, key), 0) + world.ledger.disturbed[run]
        assert n <= most, f"the body of {key} ran {n} times, at most {most}"
    for run, seen in world.ledger.seen.items():
        if ("error", "RuntimeError", LOST) in seen.values():
            assert world.ledger.disturbed[run] >= 2, f"{run} was charged with losses that it never had"


def check_leftovers(world: World) -> None:
    """Nothing waits for ever."""
    assert world.look("SELECT key FROM flows_waits WHERE state = 'open'") == []
    assert world.look("SELECT id FROM flows_runs WHERE ended_at IS NULL") == []
    assert world.look("SELECT run_id FROM flows_queue") == []
    assert world.look("SELECT run_id, path FROM flows_branches WHERE ended_at IS NULL") == []


def check_sends(world: World, number: int, run: str) -> None:
    """What a step sent is there once when it is recorded, else not at all."""
    sent: dict[str, list[int]] = {}
    for (data,) in world.look("SELECT data FROM flows_events WHERE name LIKE 'news/%'"):
        event = json.loads(data)
        if event["of"] == number and event["by"].startswith("send "):
            sent.setdefault(event["by"].removeprefix("send "), []).append(event["n"])
    memos = world.look("SELECT key, value FROM flows_steps WHERE run_id = :run AND kind = 'send'", run=run)
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


def check_waits(world: World, run: str, ops: dict[str, Wait]) -> None:
    """A wait gets the first event that it may see; None only when there was none in its time."""
    ledger = world.ledger
    for key, seen in ledger.seen[run].items():
        op = ops.get(re.sub(r":\d+", "", key))
        if op is None:
            continue
        began, until = _span(world, run, key, op)
        eligible = [one for one in _arrivals(world, run, op, key) if began <= one.at < until]
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


def _arrivals(world: World, run: str, op: Wait, key: str) -> list[Arrival]:
    """What the wait would take, without what other waits of the run took."""
    ((number,),) = world.look("SELECT flow FROM flows_runs WHERE id = :run", run=run)
    found = []
    rows = world.look(
        "SELECT id, arrived_at, data FROM flows_events WHERE name = :name AND arrived_at IS NOT NULL AND NOT EXISTS "
        "(SELECT 1 FROM flows_waits w WHERE w.run_id = :run AND w.key <> :key AND w.event_id = flows_events.id) "
        "ORDER BY arrived_at, id",
        name=op.name,
        run=run,
        key=key,
    )
    for id, at, data in rows:
        event = json.loads(data)
        fits = {"own": flow_name(event["of"]) == number, "even": event["n"] % 2 == 0, "any": True}[op.only]
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
