"""Random flows in a random world end as their plain reading does, and keep what they recorded."""

import os
import random
from collections.abc import Sequence

import pytest
from hypothesis import Phase

from tests.simulation.programs import Program
from tests.simulation.simulate import EXAMPLES, SEED, simulate, simulations
from tests.simulation.world import Action

ROUNDS_BY_HAND = 20


@pytest.mark.timeout(900)
def test_every_run_ends_as_its_plain_reading_whatever_dies_or_is_lost() -> None:
    print(f"seed {SEED}, {EXAMPLES} examples")  # noqa: T201
    simulations(EXAMPLES, SEED)()


def test_a_world_is_the_same_each_time() -> None:
    def twice(programs: Sequence[Program], actions: Sequence[Action]) -> None:
        first = simulate_from(0, programs, actions)
        assert first == simulate_from(0, programs, actions)

    simulations(40, SEED, Phase.generate, one=twice)()


def simulate_from(dice: int, programs: Sequence[Program], actions: Sequence[Action]) -> object:
    random.seed(dice)
    return simulate(programs, actions)


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_twenty_rounds_of_as_many_worlds_from_new_seeds() -> None:
    first = int(os.environ.get("FLOWS_SEED") or random.SystemRandom().randrange(1_000_000))
    for number in range(first, first + ROUNDS_BY_HAND):
        print(f"seed {number}, {EXAMPLES} examples; again: FLOWS_SEED={number} make simulate")  # noqa: T201
        simulations(EXAMPLES, number)()
