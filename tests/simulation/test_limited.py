"""Random flows of which few may work at once: never too many, and none is stuck, whatever dies, is lost or changes."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from unittest.mock import patch

import pytest
from hypothesis import Phase

from celeryflows.flow_control.gates import GateBook
from celeryflows.scheduler.doorkeeper import Doorkeeper
from tests.simulation.simulate import EXAMPLES, SEED, simulations
from tests.simulation.variants import limited_worlds

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


@pytest.mark.parametrize("bug", [gates_let_in_one_more, nobody_looks_after_lines])
def test_the_simulation_of_limits_finds_that(bug: Callable[[], AbstractContextManager[object]]) -> None:
    with bug(), pytest.raises(AssertionError):
        simulations(WITHIN, 3, Phase.generate, of=limited_worlds)()
