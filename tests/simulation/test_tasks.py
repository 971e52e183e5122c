"""Random flows that send tasks of elsewhere: each ends as its plain reading, whatever is lost, doubled or dies."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from unittest.mock import patch

import pytest
from hypothesis import Phase

from celeryflows.engine.lost_tasks import LostTasks
from celeryflows.store.tasks import Tasks
from tests.simulation.choices import worlds
from tests.simulation.programs import Block, Gather, Group, Loop, Op, Program, Send, Sleep, Task, Try
from tests.simulation.simulate import EXAMPLES, SEED, simulations
from tests.simulation.world import Action

Simulated = tuple[Sequence[Program], Sequence[Action]]
WITHIN = 200


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


@pytest.mark.timeout(900)
def test_every_run_ends_as_its_plain_reading_whatever_becomes_of_its_tasks() -> None:
    simulations(EXAMPLES // 10, SEED, of=worlds.map(_tasked))()


def lost_tasks_are_not_sent_again() -> AbstractContextManager[object]:
    return patch.object(LostTasks, "_send_again", lambda *_: None)


def a_groups_last_answer_wakes_nobody() -> AbstractContextManager[object]:
    return patch.object(Tasks, "waits_beside", lambda _, waiting: ".p" in waiting.place)


@pytest.mark.parametrize("bug", [lost_tasks_are_not_sent_again, a_groups_last_answer_wakes_nobody])
def test_the_simulation_of_tasks_finds_that(bug: Callable[[], AbstractContextManager[object]]) -> None:
    with bug(), pytest.raises(AssertionError):
        simulations(WITHIN, 5, Phase.generate, of=worlds.map(_tasked))()
