"""A load of every kind of flow on four workers, while what they stand on breaks: nothing lost, nothing doubled, no
limit exceeded, nothing stuck. The long form is `make chaos`; FLOWS_SEED=n replays the seed that is printed."""

import os
import random

import pytest

from tests.chaos.findings import Findings
from tests.chaos.storm import MIXED, Forecast, say, storm
from tests.kinds import KINDS


@pytest.mark.parametrize("store", KINDS)
@pytest.mark.timeout(300)
def test_a_storm_of_mixed_faults_breaks_no_promise(store: str) -> None:
    seed = int(os.environ.get("FLOWS_SEED") or random.SystemRandom().randrange(10**6))
    say(f"FLOWS_SEED={seed}")
    played = storm([store], [MIXED], Forecast(seed, portions=2, at_once=2), say)
    assert [one.findings.all for one in played] == [Findings().all]
