"""Runs that travel together, where the end of one claims the next: each ends once, and what is given back was never
counted."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import Phase

from celeryflows.engine.bundled_runs import BundledRuns
from celeryflows.store import bundles
from celeryflows.store.bundles import Bundles
from tests.simulation import early_claims
from tests.simulation.simulate import EXAMPLES, SEED, simulations
from tests.simulation.variants import bundled_worlds

WITHIN = 400
Bug = AbstractContextManager[object]


@pytest.mark.timeout(900)
def test_each_run_of_a_bundle_ends_once_whatever_dies_or_is_lost() -> None:
    simulations(EXAMPLES // 10, SEED, of=bundled_worlds)()


def _without(where: object, name: str, words: str) -> Bug:
    statement = getattr(where, name)
    assert words in statement
    return patch.object(where, name, statement.replace(words, ""))


def whoever_has_it_now_a_claim_is_given_back() -> Bug:
    return _without(bundles, "GIVE_BACK", "AND claim_tok = :token")


def what_is_given_back_was_a_turn() -> Bug:
    return _without(bundles, "GIVE_BACK", ", turn = turn - 1")


def nothing_is_given_back() -> Bug:
    return patch.object(Bundles, "give_back", lambda *_: False)


def an_end_claims_whatever_the_status() -> Bug:
    return _without(early_claims, "CLAIM_NEXT", "AND status = 'queued'")


def an_end_claims_what_has_to_start_by_a_moment() -> Bug:
    return _without(early_claims, "CLAIM_NEXT", "AND flows_runs.expires_at IS NULL")


def what_was_claimed_has_no_message_any_more() -> Bug:
    def follow(bundled: BundledRuns, rows: Any, heard_at: float) -> None:
        bundled._rows, bundled.heard_at = rows, heard_at

    return patch.object(BundledRuns, "follow", follow)


def the_first_claim_is_read_for_all() -> Bug:
    follow = BundledRuns.follow
    return patch.object(BundledRuns, "follow", lambda bundled, rows, at: follow(bundled, bundled._rows or rows, at))


def a_claim_whose_reply_was_lost_is_not_asked_for() -> Bug:
    claim = BundledRuns.claim
    return patch.object(BundledRuns, "claim", lambda bundled, *words: claim(bundled, *words) if bundled._rows else None)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("bug", "seed"),
    [
        pytest.param(whoever_has_it_now_a_claim_is_given_back, 3, marks=pytest.mark.slow),
        (what_is_given_back_was_a_turn, 3),
        (nothing_is_given_back, 3),
        (an_end_claims_whatever_the_status, 3),
        (an_end_claims_what_has_to_start_by_a_moment, 5),
        (what_was_claimed_has_no_message_any_more, 3),
        (the_first_claim_is_read_for_all, 3),
        (a_claim_whose_reply_was_lost_is_not_asked_for, 3),
    ],
)
def test_the_simulation_of_bundles_finds_that(bug: Callable[[], Bug], seed: int) -> None:
    with bug(), pytest.raises(AssertionError):
        simulations(WITHIN, seed, Phase.generate, of=bundled_worlds)()
