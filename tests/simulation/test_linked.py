"""Random flows that start, signal and cancel each other: each end is told once, to whom it concerns."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from unittest.mock import patch

import pytest
from hypothesis import Phase

from celeryflows.engine import answering, debts
from celeryflows.scheduler import tick
from celeryflows.store.links import Link, Links
from celeryflows.store.signals import Signals
from tests.simulation.simulate import EXAMPLES, SEED, simulations
from tests.simulation.test_planted_bugs import zombies_record
from tests.simulation.variants import linked_worlds

WITHIN = 400
Bug = AbstractContextManager[object]


@pytest.mark.timeout(900)
def test_children_signals_and_cancels_reach_whom_they_concern_once() -> None:
    simulations(EXAMPLES // 8, SEED, of=linked_worlds)()


def bound_children_go_on() -> Bug:
    return patch.object(Links, "bound_children", lambda *_: [])


def children_of_lost_branches_go_on() -> Bug:
    return patch.object(Links, "lost_children", lambda *_: [])


def parents_are_not_told() -> Bug:
    return patch.object(debts, "_tell_parent", lambda *_: None)


def a_wait_takes_a_second_signal() -> Bug:
    answer = Signals.answer

    def again(signals: Signals, wait_id: str, token: str) -> str | None:
        signals._execute("UPDATE flows_waits SET state = 'open' WHERE id = :id AND kind = 'signal'", id=wait_id)
        return answer(signals, wait_id, token)

    return patch.object(Signals, "answer", again)


def who_waits_for_a_signal_is_not_found() -> Bug:
    return patch.object(Signals, "waiter", lambda *_: None)


def no_event_cancels() -> Bug:
    return patch.object(answering, "_cancel_lines", lambda *_: [])


def runs_go_on_past_their_bound() -> Bug:
    return patch.object(tick, "end_overdue", lambda *_: 0)


def successors_lose_their_parent() -> Bug:
    return patch.object(Links, "add", _without_parent(Links.add))


def _without_parent(add: Callable[..., None]) -> Callable[..., None]:
    def add_alone(links: Links, run: object, link: Link) -> None:
        add(links, run, replace(link, parent=None, parent_key=None) if link.continued_from else link)

    return add_alone


@pytest.mark.parametrize(
    ("bug", "seed"),
    [
        (bound_children_go_on, 3),
        pytest.param(children_of_lost_branches_go_on, 5, marks=pytest.mark.slow),
        (parents_are_not_told, 3),
        pytest.param(a_wait_takes_a_second_signal, 4, marks=pytest.mark.slow),
        (who_waits_for_a_signal_is_not_found, 3),
        (no_event_cancels, 18),
        (runs_go_on_past_their_bound, 3),
        (successors_lose_their_parent, 3),
        (zombies_record, 3),
    ],
)
def test_the_simulation_of_links_finds_that(bug: Callable[[], Bug], seed: int) -> None:
    with bug(), pytest.raises(AssertionError):
        simulations(WITHIN, seed, Phase.generate, of=linked_worlds)()
