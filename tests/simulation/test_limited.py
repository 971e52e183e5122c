"""Random flows of which few may work at once: never too many, and none is stuck, whatever dies, is lost or changes."""

import pytest

from tests.simulation.simulate import EXAMPLES, SEED, simulations
from tests.simulation.variants import limited_worlds


@pytest.mark.timeout(900)
def test_never_more_limited_runs_work_at_once_than_may_and_none_is_stuck() -> None:
    simulations(EXAMPLES // 10, SEED, of=limited_worlds)()
