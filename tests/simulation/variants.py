"""Worlds of a kind of their own, made from any: one of their runs works at a time, or they send tasks of elsewhere."""

from collections.abc import Sequence
from dataclasses import replace

from tests.simulation.choices import worlds
from tests.simulation.programs import Block, Gather, Group, Loop, Op, Program, Send, Sleep, Task, Try
from tests.simulation.world import Action

Simulated = tuple[Sequence[Program], Sequence[Action]]


def _limited(world: Simulated) -> Simulated:
    programs, actions = world
    return [replace(program, limited=True) for program in (*programs, *programs[:1])], actions


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


limited_worlds = worlds.map(_limited)
tasked_worlds = worlds.map(_tasked)
