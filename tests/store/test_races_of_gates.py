"""Gates under racing workers: never over, nobody stuck, no deadlock; a witness outside the database counts."""

import os
from pathlib import Path

import pytest

from celeryflows.scheduler.doorkeeper import audit, let_in
from celeryflows.store.database import Store
from tests.store.making import rows_of
from tests.store.races_of_gates import LIMITS, Race, play, runtime_of, work
from tests.store.witness import Witness
from tests.waiting import eventually


def beside_the_line(store: Store, race: Race) -> int:
    """What the audit finds: lines beside free slots, slots that belong to nobody."""
    return audit(runtime_of(store, "leader", race))


def nothing_is_wrong(store: Store, race: Race, *, kills: int = 0) -> None:
    """After a race: all have ended, and the gates are empty."""
    assert Witness(Path(race.folder)).over() == []
    if kills:
        # What the dead left between two transactions is the leader's business.
        runtime = runtime_of(store, "leader", race)
        while let_in(runtime) + audit(runtime) or rows_of(store, "SELECT 1 FROM flows_runs WHERE ended_at IS NULL"):
            work(Race(**{**race.__dict__, "runs": 0, "seconds": 1.0}), "last")
    assert rows_of(store, "SELECT DISTINCT status FROM flows_runs WHERE status NOT IN ('completed', 'cancelled')") == []
    assert rows_of(store, "SELECT gate, no FROM flows_slots WHERE run_id IS NOT NULL") == []
    assert rows_of(store, "SELECT gate FROM flows_queue") == []
    if store.dialect.name == "postgresql":
        deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        eventually(lambda: rows_of(store, deadlocks) == [(0,)], within=5)


def race_of(store: Store, url: str, tmp_path: Path, *, workers: int, kills: int = 0, **words: object) -> Race:
    race = Race(url, str(tmp_path), **words)  # type: ignore[arg-type]
    runtime_of(store, "leader", race)
    play(race, store, workers, kills=kills)
    return race


def test_no_limit_is_exceeded_and_nobody_is_stuck(store: Store, migrated_url: str, tmp_path: Path) -> None:
    nothing_is_wrong(store, race_of(store, migrated_url, tmp_path, workers=3, runs=40))


def test_workers_killed_at_any_point_leave_no_limit_exceeded(store: Store, migrated_url: str, tmp_path: Path) -> None:
    race = race_of(store, migrated_url, tmp_path, workers=3, runs=60, kills=3, cancels=False)
    nothing_is_wrong(store, race, kills=3)


def test_two_limits_each_from_eight_processes_do_not_deadlock(migrated_postgres: str, tmp_path: Path) -> None:
    store = Store(migrated_postgres)
    try:
        flows = ("nested", "crossing", "shared", "sharing")
        nothing_is_wrong(store, race_of(store, migrated_postgres, tmp_path, workers=8, runs=20, flows=flows))
    finally:
        store.dispose()


def test_without_the_locks_somebody_waits_beside_a_free_slot(migrated_postgres: str, tmp_path: Path) -> None:
    store = Store(migrated_postgres)
    try:
        found = 0
        for _ in range(5):
            race = Race(migrated_postgres, str(tmp_path), ("hot",), 60, broken=True, branches=False, seconds=6)
            runtime_of(store, "leader", race)
            play(race, store, 4)
            found += beside_the_line(store, race)
            if found:
                break
        assert found > 0
    finally:
        store.dispose()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("flow", [*LIMITS, None])
def test_6_000_runs_and_their_kills(store: Store, migrated_url: str, tmp_path: Path, flow: str | None) -> None:
    flows = tuple(LIMITS) if flow is None else (flow,)
    runs = int(os.environ.get("RACE_RUNS", "1000")) // 6
    race = race_of(store, migrated_url, tmp_path, workers=6, runs=runs, kills=9, flows=flows, seconds=600.0)
    nothing_is_wrong(store, race, kills=9)
