"""The simulation can fail: bugs that are planted into the engine are found within a few hundred worlds."""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from unittest.mock import patch

import pytest
from hypothesis import Phase

from celeryflows.engine import conclusion
from celeryflows.scheduler import tick
from celeryflows.store import branches, runs, steps
from celeryflows.store.steps import Steps
from tests.simulation.simulate import simulations

FENCE = "AND turn = :turn AND claim_tok = :token AND status = 'running'"
FIRST_WINS = r"WHERE flows_steps.state IN \([^)]*\)"
WITHIN = 400


def zombies_record() -> AbstractContextManager[object]:
    unfenced, fences = re.subn(FENCE, "", steps.RECORD)
    overwriting, guards = re.subn(FIRST_WINS, "WHERE true", unfenced)
    assert fences == guards == 1
    return patch.object(steps, "RECORD", overwriting)


def memos_are_not_read() -> AbstractContextManager[object]:
    return patch.object(Steps, "memos", lambda *_: {})


def waits_do_not_look_back() -> AbstractContextManager[object]:
    return patch.object(conclusion, "_arrived", lambda *_: None)


def a_message_claims_whatever_the_status() -> AbstractContextManager[object]:
    asked = "AND status = 'queued'"
    assert asked in runs.CLAIM
    return patch.object(runs, "CLAIM", runs.CLAIM.replace(asked, ""))


def a_branchs_message_claims_whatever_its_status() -> AbstractContextManager[object]:
    asked = "AND status = 'queued'"
    assert asked in branches.CLAIM
    return patch.object(branches, "CLAIM", branches.CLAIM.replace(asked, ""))


def lost_messages_are_not_sent_again() -> AbstractContextManager[object]:
    return patch.object(tick, "resend_lost", lambda *_: 0)


def dead_workers_keep_their_runs() -> AbstractContextManager[object]:
    return patch.object(tick, "adopt_orphans", lambda *_: 0)


# Each with a seed that comes to it soon.
@pytest.mark.parametrize(
    ("bug", "seed"),
    [
        (zombies_record, 3),
        (memos_are_not_read, 5),
        (waits_do_not_look_back, 5),
        (a_message_claims_whatever_the_status, 5),
        (a_branchs_message_claims_whatever_its_status, 8),
        (lost_messages_are_not_sent_again, 3),
        (dead_workers_keep_their_runs, 7),
    ],
)
def test_the_simulation_finds_that(bug: Callable[[], AbstractContextManager[object]], seed: int) -> None:
    with bug(), pytest.raises(AssertionError):
        simulations(WITHIN, seed, Phase.generate)()
