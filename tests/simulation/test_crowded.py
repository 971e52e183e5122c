"""Many events start random flows, each under a limit of one kind or two: none is lost, and none passes that may not."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from unittest.mock import patch

import pytest
from hypothesis import Phase

from celeryflows.engine import admission, passage, throttling, windows
from celeryflows.flow_control import batch, debounce
from celeryflows.store.batches import Batches
from celeryflows.store.meters import Meters
from celeryflows.store.once import Once
from celeryflows.store.singletons import Singletons
from tests.simulation.simulate import EXAMPLES, SEED, simulations
from tests.simulation.variants import crowded_by, crowded_worlds

WITHIN = 100
Bug = AbstractContextManager[object]


@pytest.mark.timeout(900)
def test_each_event_is_accounted_for_as_its_limit_promises() -> None:
    simulations(EXAMPLES // 6, SEED, of=crowded_worlds)()


def singletons_do_not_see_who_is_there() -> Bug:
    return patch.object(Singletons, "open_holder", lambda *_: None)


def rate_limits_let_all_pass() -> Bug:
    return patch.object(Meters, "take", lambda *_: True)


def throttles_let_all_pass() -> Bug:
    return patch.object(throttling, "due_at", lambda *_: 0)


def a_debounce_fires_at_once() -> Bug:
    return patch.object(debounce, "fire_at", lambda _limit, _deadline, now: now)


def a_debounce_keeps_its_first_event() -> Bug:
    old = debounce.Verdict.IS_OLD
    return patch.object(debounce, "judge", lambda window, _: debounce.Verdict.OPENS if window is None else old)


def batches_are_never_full() -> Bug:
    return patch.object(windows, "judge_batch", lambda *_: batch.Verdict.JOINS)


def a_batch_loses_what_joins_it() -> Bug:
    add = Batches.add_event

    def add_first(batches: Batches, run_id: str, event_id: str, no: int, link: object = None) -> None:
        if no == 0:
            add(batches, run_id, event_id, no, None)

    return patch.object(Batches, "add_event", add_first)


def keys_are_always_free() -> Bug:
    return patch.object(Once, "take", lambda *_: True)


def sent_ids_are_not_known() -> Bug:
    return patch.object(admission, "_without_duplicates", lambda _runtime, _tx, starts: starts)


def priorities_do_not_count() -> Bug:
    return patch.object(passage, "first_rank", lambda created_at, _: created_at)


@pytest.mark.parametrize(
    ("bug", "kind"),
    [
        (singletons_do_not_see_who_is_there, "singleton skip"),
        (singletons_do_not_see_who_is_there, "singleton cancel"),
        (rate_limits_let_all_pass, "rate limit"),
        (throttles_let_all_pass, "throttle"),
        (a_debounce_fires_at_once, "debounce"),
        (a_debounce_keeps_its_first_event, "debounce"),
        (batches_are_never_full, "batch"),
        (a_batch_loses_what_joins_it, "batch"),
        (keys_are_always_free, "idempotency"),
        (sent_ids_are_not_known, "batch"),
        (priorities_do_not_count, "priority"),
    ],
)
def test_the_simulation_of_crowds_finds_that(bug: Callable[[], Bug], kind: str) -> None:
    with bug(), pytest.raises(AssertionError):
        simulations(WITHIN, 3, Phase.generate, of=crowded_by(kind))()
