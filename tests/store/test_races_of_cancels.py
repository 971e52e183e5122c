"""Cancels that race over processes: no run is missed, none is told twice, none is left between two ends."""

from collections import Counter
from collections.abc import Iterator

import pytest

from celeryflows.engine.intake import send
from celeryflows.engine.turn import take_turn
from celeryflows.model.events import Event
from celeryflows.store.database import Store
from tests.store.making import rows_of
from tests.store.races_of_cancels import answer_and_cancel, late_rounds, ordering, route_and_cancel
from tests.store.team import Team, flat

SHORT, BATCH, BATCHES = 80, 30, 12


@pytest.fixture(scope="module")
def team() -> Iterator[Team]:
    made = Team(2, 4)
    yield made
    made.stop()


def ends(team: Team, store: Store, url: str, rounds: int, *, sound: bool = True) -> tuple[Counter[str], set[int]]:
    """How the runs of late events stand that two processes route while two cancel them; how often each was told."""
    before = {row[0] for row in rows_of(store, "SELECT id FROM flows_runs")}
    told = Counter(flat(team.run(4, route_and_cancel, url, late_rounds(store, rounds), sound)))
    runs = {run: status for run, status in rows_of(store, "SELECT id, status FROM flows_runs") if run not in before}
    return Counter(runs.values()), {told[run] for run in runs}


def test_no_late_run_misses_what_cancels_it(store: Store, migrated_url: str, team: Team) -> None:
    assert ends(team, store, migrated_url, SHORT) == ({"cancelled": SHORT}, {1})


# A file's transactions find by themselves that what they read has changed.
@pytest.mark.parametrize("migrated_url", ["postgres"], indirect=True)
def test_without_the_locks_late_runs_miss_what_cancels_them(store: Store, migrated_url: str, team: Team) -> None:
    assert any(ends(team, store, migrated_url, BATCH, sound=False)[0]["queued"] for _ in range(BATCHES))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_late_run_misses_what_cancels_it_in_2000_rounds(store: Store, migrated_url: str, team: Team) -> None:
    assert ends(team, store, migrated_url, 2000) == ({"cancelled": 2000}, {1})


def test_a_run_that_is_answered_and_cancelled_at_once_comes_to_one_end(
    store: Store, migrated_url: str, team: Team
) -> None:
    late_rounds(store, 0)
    runtime = ordering(store)
    send(runtime, [Event("race/placed", {"n": n}) for n in range(SHORT)])
    runs = [delivery.run_id for delivery in runtime.dispatcher.waiting]  # type: ignore[attr-defined]
    for run_id in runs:
        take_turn(runtime, run_id)
    told = Counter(flat(team.run(2, answer_and_cancel, migrated_url, runs, True)))
    stand = dict(rows_of(store, "SELECT id, status FROM flows_runs"))
    assert set(stand.values()) <= {"completed", "cancelled"}
    assert {run for run, status in stand.items() if status == "cancelled"} == set(told)
    assert set(told.values()) <= {1}
    assert rows_of(store, "SELECT 1 FROM flows_waits WHERE state = 'open'") == []
