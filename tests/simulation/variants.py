"""Worlds of a kind of their own, made from any: few of their runs work at once, or they send tasks of elsewhere."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import strategies as st

from tests.simulation.choices import crowded, plans, worlds
from tests.simulation.programs import Block, Gather, Group, Loop, Op, Program, Send, Sleep, Task, Try
from tests.simulation.world import Action

Simulated = tuple[Sequence[Program], Sequence[Action]]


def _limited(world: Simulated, limits: Sequence[tuple[str, ...]]) -> Simulated:
    """Here and there, other limits are deployed in place of a restart or an event."""
    programs, actions = world
    both = zip((*programs, *programs[:1]), limits, strict=False)
    return [replace(program, limits=names) for program, names in both], [_deployed(action) for action in actions]


def _deployed(action: Action) -> Action:
    is_one = action.verb == "restart" or (action.verb == "send" and action.pick > 8)
    return replace(action, verb="deploy", pick=action.pick + len(action.faults)) if is_one else action


def _tasked(world: Simulated) -> Simulated:
    """What slept and sent sends tasks; instead of events sent from outside there are tasks done elsewhere."""
    programs, actions = world
    played = [replace(program, body=_block(program.body)) for program in programs]
    return played, [replace(action, verb="work") if action.verb == "send" else action for action in actions]


def _block(block: Block) -> Block:
    return tuple(_op(op) for op in block)


def _op(op: Op) -> Op:
    match op:
        case Sleep():
            return Task(op.id, "line" if op.seconds == 3 else "one")
        case Send():
            return Task(op.id, "chord", fails=op.count == 2)
        case Loop():
            return replace(op, body=_block(op.body))
        case Try():
            return replace(op, body=_block(op.body), handler=_block(op.handler), final=_block(op.final))
        case Gather() | Group():
            return replace(op, branches=tuple(_block(branch) for branch in op.branches))
    return op


limits = st.sampled_from([("all",), ("all",), ("own",), ("pair",), ("pair", "own"), ("all", "pair"), ()])
# Branches of groups within groups, some of which lose a race, take slots and give them back by themselves.
crowds = st.builds(Program, body=st.tuples(crowded), retries=st.integers(0, 1))
limited_worlds = st.builds(
    _limited,
    st.one_of(worlds, st.tuples(st.lists(crowds, min_size=1, max_size=2), plans)),
    st.lists(limits, min_size=3, max_size=3),
)
tasked_worlds = worlds.map(_tasked)
