"""Worlds of a kind of their own, made from any: few of their runs work at once, they send tasks of elsewhere, they
start, signal and cancel each other, or many start at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from hypothesis import strategies as st

from tests.simulation.activity import Fault
from tests.simulation.choices import crowded, plans, programs, steps, worlds
from tests.simulation.kinds import FREE, KINDS
from tests.simulation.programs import (
    Again,
    Block,
    Gather,
    Group,
    Invoke,
    Loop,
    Op,
    Program,
    Send,
    SignalWait,
    Sleep,
    Step,
    Task,
    Try,
)
from tests.simulation.world import Action

Simulated = tuple[Sequence[Program], Sequence[Action]]


@dataclass(frozen=True)
class Family:
    """What more a program has: how often it goes on as another run, what cancels it, the bounds of its time."""

    times: int
    cancel_on: str | None
    start: int | None
    finish: int | None


def _limited(world: Simulated, limits: Sequence[tuple[str, ...]], last: int) -> Simulated:
    """Here and there, other limits are deployed in place of a restart or an event; at last everywhere."""
    programs, actions = world
    both = zip((*programs, *programs[:1]), limits, strict=False)
    return [replace(program, limits=names) for program, names in both], [
        one for action in actions for one in _deployed(action)
    ] + [Action("deploy", 2 * last + worker) for worker in (0, 1)]


def _deployed(action: Action) -> list[Action]:
    match action.verb:
        case "restart" | "send" if action.verb == "restart" or action.pick > 8:
            return [replace(action, verb="deploy", pick=action.pick + len(action.faults))]
        case "flush" | "lose":
            # A run is cancelled while it works, and its turn leaves.
            stopped = Action("deliver", action.pick, (Fault("stop", action.pick),))
            return [Action("start", 1), stopped, Action("cancel", action.pick % 2), Action("resume")]
    return [action]


def _tasked(world: Simulated) -> Simulated:
    """What slept and sent sends tasks; instead of events sent from outside there are tasks done elsewhere."""
    programs, actions = world
    played = [replace(program, body=_block(program.body, _with_task)) for program in programs]
    return played, [replace(action, verb="work") if action.verb == "send" else action for action in actions]


def _with_task(op: Op) -> Op:
    match op:
        case Sleep():
            return Task(op.id, "line" if op.seconds == 3 else "one")
        case Send():
            return Task(op.id, "chord", fails=op.count == 2)
    return op


def _linked(world: Simulated, families: Sequence[Family]) -> Simulated:
    """Two programs that others start come first. Some events are signals and cancels."""
    programs, actions = world
    found = []
    for i, (program, family) in enumerate(zip([*programs[-1:], *programs[-1:], *programs], families, strict=False)):
        is_child = i < 2
        # A child's children are those before it.
        body = _block(program.body if not is_child else program.body[-2:], partial(_with_link, most=min(i, 2)))
        if family.times:
            body = (*body, Again(family.times))
        bounds = {"cancel_on": family.cancel_on, "start": family.start, "finish": family.finish}
        found.append(replace(program, body=body, is_child=is_child, **bounds))
    return found, [one for action in actions for one in _linking(action)]


def _with_link(op: Op, most: int) -> Op:
    """Others in place of what sleeps and sends; their ids tell what they are."""
    match op:
        case Sleep() | Send() if isinstance(op, Send) or op.seconds == 3 or not most or op.id == "a":
            seconds = op.seconds if isinstance(op, Sleep) else 3_000
            if most and (isinstance(op, Send) or op.id != "a"):
                callee, bound = ord(op.id) % most, op.id != "c"
                return Invoke(f"i{callee}{bound}{seconds}", callee, seconds, bound)
            name, replaces = f"sig/{ord(op.id) % 2}", op.id == "c"
            return SignalWait(f"s{name[-1]}{replaces}{seconds}", name, seconds, replaces)
        case Step(provokes="news/1"):
            return replace(op, provokes=f"sig/{ord(op.id) % 2}")
    return op


def _linking(action: Action) -> list[Action]:
    match action.verb:
        case "send" if action.pick % 3:
            return [replace(action, verb="signal", pick=action.pick // 3)]
        case "silence" | "advance" if len(action.faults) == 1:
            return [replace(action, verb="signal", faults=())]
        case "flush":
            # One knows who waits, and another is faster.
            late = Action("signal", action.pick, (Fault("stop", 1 + action.pick % 2),))
            return [late, Action("signal", action.pick), Action("resume")]
        case "restart" | "lose" | "double":
            return [replace(action, verb="cancel")]
    return [action]


def _block(block: Block, change: Callable[[Op], Op]) -> Block:
    return tuple(_op(op, change) for op in block)


def _op(op: Op, change: Callable[[Op], Op]) -> Op:
    match op:
        case Loop():
            return replace(op, body=_block(op.body, change))
        case Try():
            parts = {name: _block(getattr(op, name), change) for name in ("body", "handler", "final")}
            return replace(op, **parts)
        case Gather() | Group():
            return replace(op, branches=tuple(_block(branch, change) for branch in op.branches))
    return change(op)


limits = st.sampled_from([("all",), ("all",), ("own",), ("pair",), ("pair", "own"), ("all", "pair"), ()])
# Branches of groups within groups, some of which lose a race, take slots and give them back by themselves.
crowds = st.builds(Program, body=st.tuples(crowded), retries=st.integers(0, 1))
limited_worlds = st.builds(
    _limited,
    st.one_of(worlds, st.tuples(st.lists(crowds, min_size=1, max_size=2), plans)),
    st.lists(limits, min_size=3, max_size=3),
    st.integers(0, 6),
)
tasked_worlds = worlds.map(_tasked)
families = st.builds(
    Family,
    times=st.sampled_from([0, 0, 0, 1, 2]),
    cancel_on=st.sampled_from([None, None, None, "news/0"]),
    start=st.sampled_from([None, None, None, 30]),
    finish=st.sampled_from([None, None, None, 30, 1_000]),
)
linked_worlds = st.builds(_linked, worlds, st.lists(families, min_size=4, max_size=4))


def _crowded(world: Simulated, kinds: Sequence[str]) -> Simulated:
    """Many events start each program, which is short. The second is of the first one's kind or another."""
    programs, actions = world
    # An event's own id tells which program it starts.
    found = [
        replace(program, body=program.body[:2], admits=kind) for program, kind in zip(programs, kinds, strict=False)
    ]
    return found, [one for action in actions for one in _starting(action)]


def _starting(action: Action) -> list[Action]:
    """Many come at once, or by and by."""
    match action.verb:
        case "restart" | "lose" | "double" | "flush" | "kill" if not action.faults:
            return [replace(action, verb="start", pick=action.pick % 2) for _ in range(4)]
        case "send" | "cancel" | "silence":
            return [replace(action, verb="start")]
        case "deliver" if action.pick > 6:
            return [replace(action, verb="start")]
    return [action]


def crowded_by(*kinds: str) -> st.SearchStrategy[Simulated]:
    """Worlds of crowds under limits of these kinds."""
    return st.builds(_crowded, worlds, st.lists(st.sampled_from(kinds), min_size=2, max_size=2))


crowded_worlds = crowded_by(*sorted(KINDS))


def _bundled(world: Simulated, kind: str, names: tuple[str, ...], start: int | None) -> Simulated:
    """Several events at once start each program, and what becomes ready together travels so. Faults strike at any of
    the runs of a message."""
    programs, actions = world
    found = [replace(programs[0], admits=FREE, limits=names, start=start, bundled=True)]
    found += [replace(one, body=one.body[:2], admits=kind, limits=names, bundled=True) for one in programs[1:]]
    changed = [one for action in actions for one in _flocking(action)]
    return found, [replace(one, faults=tuple(_further(fault) for fault in one.faults)) for one in changed]


def _flocking(action: Action) -> list[Action]:
    match action.verb:
        case "send":
            return [replace(action, verb="start"), replace(action, verb="deliver")]
        case "cancel":
            # One of the last of a message, while the first is at work.
            stopped = Action("deliver", -2, (Fault("stop", 2 + action.pick),))
            return [Action("start", action.pick), stopped, Action("cancel", -1 - action.pick % 3), Action("resume", -1)]
        case "restart" | "lose" | "double" | "flush" | "kill" if action.pick % 2:
            return [Action("start", action.pick), action, Action("deliver")]
    return [action]


def _further(fault: Fault) -> Fault:
    return replace(fault, at=fault.at * 3) if fault.at % 2 else fault


# Runs that are over in one turn: the end of one claims the next.
well = st.builds(Step, id=st.sampled_from("abc"), provokes=st.sampled_from([None, None, "news/0"]))
quick = st.builds(
    Program, body=st.lists(st.one_of(well, well, well, steps), max_size=2).map(tuple), retries=st.integers(0, 1)
)
bundled_worlds = st.builds(
    _bundled,
    st.tuples(st.tuples(quick, st.one_of(quick, programs)), plans),
    st.sampled_from([FREE, FREE, FREE, "idempotency", "debounce", "batch", "singleton cancel", "priority"]),
    st.sampled_from([(), (), (), ("all",), ("own",)]),
    st.sampled_from([None, None, 1_000]),
)
