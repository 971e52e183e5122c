"""Gates under racing workers: never over, nobody stuck, no deadlock; a witness outside the database counts."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from celeryflows.engine.passage import Passage
from celeryflows.flow_control.gates import Gate, GateBook, GateLimit
from celeryflows.scheduler.doorkeeper import audit, fill_changed, let_in
from celeryflows.store.branches import Unit
from celeryflows.store.database import Store
from celeryflows.store.gates import TAKE, Gates
from tests.store.making import FLOW, rows_of
from tests.store.races_of_gates import LIMITS, Fault, Race, play, runtime_of, work
from tests.store.witness import Witness
from tests.waiting import eventually


@pytest.fixture
def postgres(migrated_postgres: str) -> Iterator[Store]:
    store = Store(migrated_postgres)
    yield store
    store.dispose()


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
    if store.dialect.name == "postgresql":
        # Tests of other files provoke deadlocks in the same database.
        rows_of(store, "SELECT pg_stat_reset()")
    play(race, store, workers, kills=kills)
    return race


def test_no_limit_is_exceeded_and_nobody_is_stuck(store: Store, migrated_url: str, tmp_path: Path) -> None:
    nothing_is_wrong(store, race_of(store, migrated_url, tmp_path, workers=3, runs=40))


def test_workers_killed_at_any_point_leave_no_limit_exceeded(store: Store, migrated_url: str, tmp_path: Path) -> None:
    race = race_of(store, migrated_url, tmp_path, workers=3, runs=60, kills=3, cancels=False)
    nothing_is_wrong(store, race, kills=3)


def test_two_limits_each_from_eight_processes_do_not_deadlock(
    postgres: Store, migrated_postgres: str, tmp_path: Path
) -> None:
    flows = ("nested", "crossing", "shared", "sharing")
    nothing_is_wrong(postgres, race_of(postgres, migrated_postgres, tmp_path, workers=8, runs=20, flows=flows))


def test_races_in_races_leave_no_slot_behind(store: Store, migrated_url: str, tmp_path: Path) -> None:
    race = race_of(store, migrated_url, tmp_path, workers=3, runs=12, kinds=("nests",), flows=("hot", "nested"))
    nothing_is_wrong(store, race)


def test_losers_of_races_in_races_that_are_forgotten_are_seen(store: Store, migrated_url: str, tmp_path: Path) -> None:
    race = race_of(
        store,
        migrated_url,
        tmp_path,
        workers=3,
        runs=12,
        kinds=("nests",),
        flows=("hot", "nested"),
        cancels=False,
        seconds=6.0,
        fault="forgets losers",
    )
    with pytest.raises(AssertionError):
        nothing_is_wrong(store, race)


BOOK = GateBook({}, {"0" * 26: 1})
GATE = Gate(f"1{'0' * 26}one", GateLimit("0" * 26, 1, FLOW, None, 1), None)


def entered(store: Store, run: str) -> str | None:
    """Where a unit stands that enters the gate: None inside, else the gate at which it waits."""
    with store.begin() as tx:
        passage = Passage(tx, BOOK)
        traveller = passage.start((run, ""), [GATE])
        passage.go()
    return traveller.held_at


def one_leaves_as_another_enters(store: Store) -> str | None:
    """Where who enters comes to stand while the one inside has left, and not committed yet."""
    assert entered(store, "first") is None
    with ThreadPoolExecutor(1) as pool:
        with store.begin() as tx:
            passage = Passage(tx, BOOK)
            passage.leave(("first", ""), [GATE.name], [1])
            passage.go()
            entering = pool.submit(entered, store, "second")
            with suppress(TimeoutError):
                entering.result(1)
        return entering.result(20)


def test_who_enters_waits_for_one_who_leaves_and_takes_the_slot(postgres: Store) -> None:
    assert one_leaves_as_another_enters(postgres) is None


def test_without_the_locks_who_enters_would_wait_beside_a_free_slot(
    postgres: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def take(self: Gates, gate: str, unit: Unit, most: int) -> int | None:
        rows = self._execute(TAKE, gate=gate, run=unit[0], branch=unit[1], most=most)
        return rows[0][0] if rows else None

    monkeypatch.setattr(Gates, "hold", lambda *_: None)
    monkeypatch.setattr(Gates, "share_and_take", take)
    monkeypatch.setattr(Gates, "share_unless_lowered", lambda *_: False)
    assert one_leaves_as_another_enters(postgres) == GATE.name
    assert rows_of(postgres, "SELECT run_id FROM flows_slots WHERE run_id IS NOT NULL") == []


def held(store: Store) -> int:
    return int(rows_of(store, "SELECT count(*) FROM flows_slots WHERE run_id IS NOT NULL")[0][0])


def lowered_and_raised(store: Store, url: str, tmp_path: Path, runs: int, *, sound: bool = True) -> None:
    """A limit of three is lowered to one and raised again while three workers race at it."""
    fault: Fault | None = None if sound else "hands on blindly"
    race = Race(
        url, str(tmp_path), flows=("hot",), runs=runs, cancels=False, seconds=60.0 if sound else 8.0, fault=fault
    )
    leader = runtime_of(store, "leader", race)
    if store.dialect.name == "postgresql":
        rows_of(store, "SELECT pg_stat_reset()")
    with ThreadPoolExecutor(1) as pool:
        racing = pool.submit(play, race, store, 3)
        try:
            eventually(lambda: all(race.declared(f"w{n}").exists() for n in range(3)), within=20)
            eventually(lambda: held(store) > 1, within=20, every=0.005)
            runtime_of(store, "lower", race, number=1)
            eventually(lambda: held(store) <= 1, within=5 if sound else 1.5, every=0.005)
            race.lowered.write_text("1")
            assert max(held(store) for _ in range(100)) <= 1
            race.lowered.unlink()
            runtime_of(store, "raise", race, number=3)
            fill_changed(leader)
            # On a slow machine nobody may be left who waits.
            eventually(lambda: held(store) > 1 or racing.done(), within=40, every=0.005)
        finally:
            racing.result(100)
    nothing_is_wrong(store, race)


def test_a_limit_that_is_lowered_and_raised_under_load_holds(store: Store, migrated_url: str, tmp_path: Path) -> None:
    lowered_and_raised(store, migrated_url, tmp_path, 45)


@pytest.mark.slow
def test_slots_that_are_handed_on_without_a_look_at_the_limit_stay_too_many(
    store: Store, migrated_url: str, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match=r"was not true|<= 1"):
        lowered_and_raised(store, migrated_url, tmp_path, 300, sound=False)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("flow", [*LIMITS, None])
def test_6_000_runs_and_their_kills(store: Store, migrated_url: str, tmp_path: Path, flow: str | None) -> None:
    flows = tuple(LIMITS) if flow is None else (flow,)
    runs = int(os.environ.get("RACE_RUNS", "1000")) // 6
    race = race_of(store, migrated_url, tmp_path, workers=6, runs=runs, kills=9, flows=flows, seconds=600.0)
    nothing_is_wrong(store, race, kills=9)
