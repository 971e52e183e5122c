"""What must hold between runs and for what ends them: children, cancels, bounds of time, signals."""

import json
import re
from collections import defaultdict
from typing import Any

from celeryflows.codec import loads
from celeryflows.durations import SECOND
from tests.simulation.facts import Run, last_of, line_of
from tests.simulation.plain import Seen
from tests.simulation.player import flow_name
from tests.simulation.programs import LOST, Block, Gather, Group, Invoke, Loop, SignalWait, Tool, Try
from tests.simulation.world import World

Runs = dict[str, Run]
# Nobody dies any more: what is due is done within so long, a dead worker's being taken over included.
SOON = 40 * SECOND
WAITS = "SELECT run_id, key, armed_at, state, due_at FROM flows_waits WHERE kind = 'signal' AND name = :name"


def tools(block: Block, path: str = "") -> dict[str, Tool]:
    """The children and signals of a program by their steps' keys without numbers."""
    found: dict[str, Tool] = {}
    for op in block:
        match op:
            case Invoke() | SignalWait():
                found[path + op.id] = op
            case Loop():
                found |= tools(op.body, path)
            case Try():
                found |= tools(op.body, path) | tools(op.handler, path) | tools(op.final, path)
            case Gather():
                for i, branch in enumerate(op.branches):
                    found |= tools(branch, f"{path}{i}.")
            case Group():
                for i, branch in enumerate(op.branches):
                    found |= tools(branch, f"{path}group[{i}]/")
            case _:
                pass
    return found


def tool_at(world: World, run: Run, key: str) -> Tool | None:
    """Which of these a step is."""
    return tools(world.programs[run.number].body).get(re.sub(r":\d+", "", key))


# -- cancels


def check_cancels(world: World, runs: Runs) -> None:
    """A run is cancelled for a cause that is there, and by each cause that is there."""
    for run in runs.values():
        program = world.programs[run.number]
        if run.status == "cancelled":
            _check_cause(world, runs, run)
        if program.cancel_on is not None:
            _check_cancelling_event(world, run, program.cancel_on)
        for since, bound in ((run.started_at, program.finish), (run.created_at, program.start)):
            if since is None or bound is None or (bound == program.start and run.started_at is not None):
                continue
            late = max(since + bound * SECOND, world.fair_since or 0) + SOON
            assert run.ended_at <= late, f"{run.id} ended {run.ended_at - late} us too late for its bound"


def _check_cause(world: World, runs: Runs, run: Run) -> None:
    why, program = run.reason or "", world.programs[run.number]
    if why == "by hand":
        assert any(one.id in world.cancelled for one in line_of(runs, run)), f"{run.id} was cancelled by nobody"
    elif why.startswith("cancelled by event "):
        assert program.cancel_on is not None, f"{run.id}: {why}"
    elif why.startswith("singleton: replaced by"):
        assert (program.admits or "").startswith("singleton cancel"), f"{run.id}: {why}"
    elif why.startswith("timeouts.finish"):
        assert program.finish is not None, f"{run.id}: {why}"
        assert run.ended_at >= (run.started_at or 0) + program.finish * SECOND, f"{run.id} was cancelled too early"
    elif why.startswith("timeouts.start"):
        assert program.start is not None, f"{run.id}: {why}"
        assert run.started_at is None, f"{run.id} had started: {why}"
        assert run.ended_at >= run.created_at + program.start * SECOND, f"{run.id} was cancelled too early"
    else:
        assert why.startswith("cancelled with "), f"{run.id} is cancelled: {why}"
        ended = _owner_cancelled_at(world, runs, run)
        assert (ended or run.ended_at + 1) <= run.ended_at, (
            f"{run.id} of {run.parent}, {run.parent_key}, is {why} at {run.ended_at}, that is at {ended}"
        )


def _check_cancelling_event(world: World, run: Run, name: str) -> None:
    """The first event that matches ends it at once."""
    sql = "SELECT arrived_at, data FROM flows_events WHERE name = :name AND arrived_at >= :born ORDER BY arrived_at, id"
    found = [at for at, data in world.look(sql, name=name, born=run.created_at) if _of(data) == run.data["of"]]
    if found and found[0] < run.ended_at:
        raise AssertionError(f"{run.id} went on after its cancelling event of {found[0]}")
    if (run.reason or "").startswith("cancelled by event "):
        assert found[:1] == [run.ended_at], f"{run.id} was cancelled by no event"


def _of(data: str) -> Any:
    return json.loads(data)["of"]


def _owner_cancelled_at(world: World, runs: Runs, child: Run) -> int | None:
    """When what a bound child is cancelled with was: its parent, or the branch that waits for it."""
    parent, key = runs[child.parent or ""], child.parent_key or ""
    op = tool_at(world, parent, key)
    if not (isinstance(op, Invoke) and op.bound):
        return None
    sql = "SELECT ended_at FROM flows_branches WHERE run_id = :run AND path = :path AND status = 'cancelled'"
    rows = world.look(sql, run=parent.id, path=key[: key.rindex("]/") + 1]) if "]/" in key else []
    moments = [row[0] for row in rows] + ([parent.ended_at] if parent.status == "cancelled" else [])
    return min(moments, default=None)


# -- children


def check_children(world: World, runs: Runs) -> None:
    """Each invoke starts one run, whose end its handler is told; who is bound ends with its parent."""
    children: defaultdict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in runs.values():
        if world.programs[run.number].is_child:
            assert run.parent is not None, f"{run.id} has no parent"
        if run.parent is not None and run.continued_from is None:
            children[run.parent, run.parent_key or ""].append(run)
    for (parent, key), found in children.items():
        assert len(found) == 1, f"{key} of {parent} started {len(found)} runs"
        _check_child(world, runs, found[0])
    for parent, seen in world.ledger.seen.items():
        for key, told in seen.items():
            op = tool_at(world, runs[parent], key)
            if isinstance(op, Invoke) and told != ("error", "RuntimeError", LOST):
                assert children[parent, key], f"{key} of {parent} gave {told}, and started nothing"
                _check_told(world, runs, op, children[parent, key][0], told)


def _check_child(world: World, runs: Runs, child: Run) -> None:
    parent, key = runs[child.parent or ""], child.parent_key or ""
    op = tool_at(world, parent, key)
    assert isinstance(op, Invoke), f"{child.id} was not asked for"
    assert child.number == op.callee, f"{child.id} is of another flow than was asked for"
    assert child.data["by"] == f"invoke {parent.id} {key}", f"{child.id} has the event {child.data}"
    ended = _owner_cancelled_at(world, runs, child)
    if ended is not None:
        late = max(ended, world.fair_since or 0) + SOON
        last = last_of(runs, child)
        assert last.ended_at <= late, (
            f"{last.id} went on till {last.ended_at}, and {parent.id}, which it is bound to, was cancelled at {ended}"
        )


def _check_told(world: World, runs: Runs, op: Invoke, child: Run, told: Seen) -> None:
    last, where = last_of(runs, child), (child.parent or "", child.parent_key or "")
    if told[0] == "value":
        truth: Seen = ("value", loads(last.output or "null")) if last.status == "completed" else (last.status,)
    elif last.status == "failed" and told[1:] == last.end.error:
        return
    elif told[1] == "InvokeTimeout":
        until = world.ledger.reached[where] + op.seconds * SECOND
        assert world.ledger.given_at[where] >= until, f"{where} timed out too early"
        told_by = max(last.ended_at, world.fair_since or 0) + SOON
        assert told_by >= until, f"{where} timed out, though {last.id} had ended long before"
        return
    else:
        truth = ("error", "RunCancelled" if last.status == "cancelled" else last.status, last.reason)
    assert told == truth, f"{where} was told {told}, and {last.id} gave {truth}"


# -- signals


def check_signals(world: World) -> None:
    """A signal wakes the run that its sender was told, once; who waits in vain does so until its time is over."""
    taken: defaultdict[int, list[str]] = defaultdict(list)
    for run, value in world.look("SELECT run_id, value FROM flows_steps WHERE kind = 'signal' AND state = 'done'"):
        if value != "null":
            taken[json.loads(value)["data"]["n"]].append(run)
    for n, one in enumerate(world.ledger.signals):
        if one.told:
            truth = [] if one.told[0] is None else [one.told[0]]
            assert taken[n] == truth, f"signal {n} woke {taken[n]}, and its sender was told {truth}"
        assert len(taken[n]) <= 1, f"signal {n} woke {taken[n]}"
    for run, seen in world.ledger.seen.items():
        for key, told in seen.items():
            _check_heard(world, run, key, told)


def _check_heard(world: World, run: str, key: str, told: Seen) -> None:
    (row,) = world.look("SELECT flow FROM flows_runs WHERE id = :run", run=run)
    programs = {flow_name(i): program for i, program in enumerate(world.programs)}
    op = tools(programs[row[0]].body).get(re.sub(r":\d+", "", key))
    if not isinstance(op, SignalWait):
        return
    others = [one for one in world.look(WAITS, name=op.name) if one[:2] != (run, key)]
    if told[0] == "value" and told[1] is not None:
        name, n = told[1]
        assert name == op.name == world.ledger.signals[n].name, f"{key} of {run} waits for {op.name} and got {told}"
        assert world.ledger.signals[n].at <= world.ledger.given_at[run, key]
    elif told[0] == "value":
        until = world.ledger.reached[run, key] + op.seconds * SECOND
        given = world.ledger.given_at[run, key]
        replaced = any(world.ledger.reached[run, key] <= armed_at <= given for _, _, armed_at, _, _ in others)
        assert given >= until or replaced, f"{key} of {run} was told too early that no signal came"
    elif told[1] == "SignalTaken":
        assert others, f"{key} of {run} was refused a signal that nobody else waits for"
        assert not op.replaces, f"{key} of {run} takes the place of others, and was refused"
