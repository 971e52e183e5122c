"""Random flows that send tasks of elsewhere: each ends as its plain reading, whatever is lost, doubled or dies."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from unittest.mock import patch

import pytest
from hypothesis import Phase

from celeryflows.engine.lost_tasks import LostTasks
from celeryflows.store.tasks import Tasks
from tests.simulation.simulate import EXAMPLES, SEED, simulations
from tests.simulation.variants import tasked_worlds

WITHIN = 200


@pytest.mark.timeout(900)
def test_every_run_ends_as_its_plain_reading_whatever_becomes_of_its_tasks() -> None:
    simulations(EXAMPLES // 10, SEED, of=tasked_worlds)()


def lost_tasks_are_not_sent_again() -> AbstractContextManager[object]:
    return patch.object(LostTasks, "_send_again", lambda *_: None)


def a_groups_last_answer_wakes_nobody() -> AbstractContextManager[object]:
    return patch.object(Tasks, "waits_beside", lambda _, waiting: ".p" in waiting.place)


@pytest.mark.parametrize("bug", [lost_tasks_are_not_sent_again, a_groups_last_answer_wakes_nobody])
def test_the_simulation_of_tasks_finds_that(bug: Callable[[], AbstractContextManager[object]]) -> None:
    with bug(), pytest.raises(AssertionError):
        simulations(WITHIN, 5, Phase.generate, of=tasked_worlds)()
