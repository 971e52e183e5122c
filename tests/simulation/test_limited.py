"""Random flows of which one may work at a time: never two at once, and none is stuck, whatever dies or is lost."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.simulation.choices import worlds
from tests.simulation.programs import Program
from tests.simulation.simulate import EXAMPLES, SEED, simulations
from tests.simulation.world import Action


def _limited(world: tuple[Sequence[Program], Sequence[Action]]) -> tuple[Sequence[Program], Sequence[Action]]:
    programs, actions = world
    return [replace(program, limited=True) for program in (*programs, *programs[:1])], actions


@pytest.mark.timeout(900)
def test_one_of_the_limited_runs_works_at_a_time_and_none_is_stuck() -> None:
    simulations(EXAMPLES // 10, SEED, of=worlds.map(_limited))()
