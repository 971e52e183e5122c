"""Random flows of which few may work at once: never too many, and none is stuck, whatever dies, is lost or changes."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from unittest.mock import patch

import pytest
from hypothesis import Phase

from celeryflows.engine import branches, conclusion, resume, routing, successors, turn
from celeryflows.flow_control.gates import GateBook
from celeryflows.scheduler import tick
from celeryflows.scheduler.doorkeeper import Doorkeeper
from tests.simulation.activity import Fault
from tests.simulation.programs import Program, Step
from tests.simulation.simulate import EXAMPLES, SEED, simulate, simulations
from tests.simulation.variants import limited_worlds
from tests.simulation.world import Action

WITHIN = 200


@pytest.mark.timeout(900)
def test_never_more_limited_runs_work_at_once_than_may_and_none_is_stuck() -> None:
    simulations(EXAMPLES // 10, SEED, of=limited_worlds)()


def gates_let_in_one_more() -> AbstractContextManager[object]:
    number = GateBook.number

    def one_more(book: GateBook, gate: str) -> int | None:
        found = number(book, gate)
        return None if found is None else found + 1

    return patch.object(GateBook, "number", one_more)


def nobody_looks_after_lines() -> AbstractContextManager[object]:
    return patch.object(Doorkeeper, "let_in", lambda *_: 0)


def changed_limits_take_no_effect() -> AbstractContextManager[object]:
    return patch.object(tick, "fill_changed", lambda *_: 0)


def who_is_cancelled_at_work_keeps_its_slot() -> AbstractContextManager[object]:
    return patch.object(turn, "leave", lambda *_: None)


@contextmanager
def who_is_ended_by_others_keeps_its_slot() -> Iterator[None]:
    with ExitStack() as stack:
        for room in (branches, conclusion, successors, resume, routing):
            stack.enter_context(patch.object(room, "settle", lambda *_: None))
        yield


@pytest.mark.parametrize(
    ("bug", "seed"),
    [
        (gates_let_in_one_more, 3),
        (nobody_looks_after_lines, 14),
        (changed_limits_take_no_effect, 5),
        pytest.param(who_is_ended_by_others_keeps_its_slot, 4, marks=pytest.mark.slow),
    ],
)
def test_the_simulation_of_limits_finds_that(bug: Callable[[], AbstractContextManager[object]], seed: int) -> None:
    with bug(), pytest.raises(AssertionError):
        simulations(WITHIN, seed, Phase.generate, of=limited_worlds)()


def test_a_slot_that_a_cancelled_turn_keeps_is_seen_at_once() -> None:
    programs = [Program((Step("a"), Step("b")), limits=("all",))]
    stopped = Action("deliver", 0, (Fault("stop", 6),))
    actions = [stopped, Action("cancel"), Action("resume")]
    simulate(programs, actions)
    with who_is_cancelled_at_work_keeps_its_slot(), pytest.raises(AssertionError, match="holds a slot"):
        simulate(programs, actions)
