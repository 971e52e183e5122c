"""Random flows of which one may work at a time: never two at once, and none is stuck, whatever dies or is lost."""

import pytest

from tests.simulation.simulate import EXAMPLES, SEED, simulations
from tests.simulation.variants import limited_worlds


@pytest.mark.timeout(900)
def test_one_of_the_limited_runs_works_at_a_time_and_none_is_stuck() -> None:
    simulations(EXAMPLES // 10, SEED, of=limited_worlds)()
