"""Random flows in a random world end as their plain reading does, and keep what they recorded."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import Phase

from tests.simulation.activity import Fault
from tests.simulation.programs import Gather, Program, Send, Sleep, Step
from tests.simulation.simulate import EXAMPLES, SEED, simulate, simulations
from tests.simulation.world import Action


@pytest.mark.timeout(900)
def test_every_run_ends_as_its_plain_reading_whatever_dies_or_is_lost() -> None:
    print(f"seed {SEED}, {EXAMPLES * 3 // 4} examples; there are more of other kinds")  # noqa: T201
    simulations(EXAMPLES * 3 // 4, SEED)()


def test_a_world_is_the_same_each_time() -> None:
    def twice(programs: Sequence[Program], actions: Sequence[Action]) -> None:
        first = simulate_from(0, programs, actions)
        assert first == simulate_from(0, programs, actions)

    simulations(40, SEED, Phase.generate, one=twice)()


def simulate_from(dice: int, programs: Sequence[Program], actions: Sequence[Action]) -> object:
    random.seed(dice)
    return simulate(programs, actions)


@pytest.mark.parametrize("at", range(8))
def test_what_the_other_branches_of_a_dead_process_do_is_seen_by_nobody(at: int) -> None:
    """Its loop hands them what it had for them already, as no real one does."""
    sends, steps = Send("a", "news/0", 1), Step("a", 0, "ok", None, False)
    program = Program((Gather(((Sleep("a", 3), sends), (sends, steps))),), retries=0, is_async=True)
    dies = (Fault("child dies", at),)
    simulate([program], [Action("deliver"), Action("advance", 2), Action("tick", 1), Action("deliver", 0, dies)])
