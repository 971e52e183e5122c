"""Events that race over processes: each wait is answered once, each occurrence fires once, each id counts once."""

from collections import Counter
from collections.abc import Iterator

import pytest

from celeryflows.durations import MINUTE
from celeryflows.engine.registrar import register_worker
from celeryflows.engine.runtime import Flow
from celeryflows.model.flows import FlowDefinition
from celeryflows.model.retries import RetryPolicy
from celeryflows.model.triggers import OnCron, OnEvent
from celeryflows.store.database import Store
from tests.store.making import a_runtime, rows_of
from tests.store.races_of_events import a_round, fire_crons, send_same_ids, wait_and_send
from tests.store.team import Team, flat

SHORT = 120
# Broken on purpose it has to show within so many rounds, a batch at a time.
BATCH, BATCHES = 30, 12


@pytest.fixture(scope="module")
def team() -> Iterator[Team]:
    made = Team(4, 8)
    yield made
    made.stop()


# -- waits against arrivals


def answers(
    team: Team, store: Store, url: str, rounds: int, *, sound: bool = True, in_pieces: bool = False
) -> Counter[str]:
    """How the waits of these rounds ended: lost (open, and nobody woke the run), or answered so many times."""
    prefix = f"shop/r{len(rows_of(store, 'SELECT id FROM flows_runs'))}n"
    all_rounds = [a_round(store, number, prefix) for number in range(rounds)]
    woken = Counter(flat(team.run(4, wait_and_send, url, all_rounds, sound, in_pieces)))
    states = dict(rows_of(store, "SELECT run_id, state FROM flows_waits"))
    ends: Counter[str] = Counter()
    for run_id in (run_id for one in all_rounds for run_id in one.run_ids):
        is_lost = states[run_id] == "open" or not woken[run_id]
        ends["lost" if is_lost else f"woken {woken[run_id]}"] += 1
    return ends


def test_no_wait_misses_its_event_and_none_is_answered_twice(store: Store, migrated_url: str, team: Team) -> None:
    assert answers(team, store, migrated_url, SHORT) == {"woken 1": 2 * SHORT}


def test_without_the_locks_waits_miss_their_events(store: Store, migrated_url: str, team: Team) -> None:
    assert any(answers(team, store, migrated_url, BATCH, sound=False)["lost"] for _ in range(BATCHES))


def test_no_wait_misses_an_event_that_answers_in_pieces(store: Store, migrated_url: str, team: Team) -> None:
    assert answers(team, store, migrated_url, SHORT // 2, in_pieces=True) == {"woken 1": SHORT}


def test_without_the_locks_pieces_miss_waits(store: Store, migrated_url: str, team: Team) -> None:
    ends = (answers(team, store, migrated_url, BATCH, sound=False, in_pieces=True) for _ in range(BATCHES))
    assert any(one["lost"] for one in ends)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_wait_misses_an_event_in_pieces_in_2000_rounds(store: Store, migrated_url: str, team: Team) -> None:
    assert answers(team, store, migrated_url, 2000, in_pieces=True) == {"woken 1": 4000}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_wait_misses_its_event_in_3000_rounds(store: Store, migrated_url: str, team: Team) -> None:
    assert answers(team, store, migrated_url, 3000) == {"woken 1": 6000}


# -- crons


def fires(team: Team, store: Store, url: str, minutes: int, *, sound: bool = True) -> tuple[Counter[str], int]:
    """The messages of each run of four crons that so many minutes were missed of, and the occurrences there were."""
    runtime = a_runtime(store)
    definitions = [FlowDefinition(f"tick{n}", triggers=(OnCron("* * * * *", missed="all"),)) for n in range(4)]
    runtime.flows = {d.name: Flow(d, lambda ctx: None, RetryPolicy()) for d in definitions}
    register_worker(runtime)
    first = (store.clock.now() // MINUTE - minutes) * MINUTE
    with store.connection() as connection:
        connection.execute("UPDATE flows_crons SET next_at = :first", first=first)
    sent = Counter(flat(team.run(8, fire_crons, url, sound)))
    [(last,)] = set(rows_of(store, "SELECT next_at FROM flows_crons"))
    occurrences = {(n, at) for n in range(4) for at in range(first, last, MINUTE)}
    runs = rows_of(store, "SELECT r.flow, e.ts, r.id FROM flows_runs r JOIN flows_events e ON e.id = r.event_id")
    assert {(int(flow.removeprefix("tick")), ts) for flow, ts, _ in runs} == occurrences
    assert {run_id for _, _, run_id in runs} == set(sent)
    return sent, len(occurrences)


def test_each_occurrence_fires_once_over_eight_processes(store: Store, migrated_url: str, team: Team) -> None:
    sent, occurrences = fires(team, store, migrated_url, 100)
    assert occurrences >= 400
    assert (len(sent), set(sent.values())) == (occurrences, {1})


def test_without_the_compare_and_set_occurrences_fire_twice(store: Store, migrated_url: str, team: Team) -> None:
    sent, _ = fires(team, store, migrated_url, 50, sound=False)
    assert max(sent.values()) > 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_each_of_8000_occurrences_fires_once(store: Store, migrated_url: str, team: Team) -> None:
    sent, occurrences = fires(team, store, migrated_url, 2000)
    assert (len(sent), set(sent.values())) == (occurrences, {1})


# -- ids that count once


def starts(team: Team, store: Store, url: str, keys: list[str], *, sound: bool = True) -> Counter[int]:
    """How many keys started how many runs, when four processes send each at once."""
    runtime = a_runtime(store)
    once = FlowDefinition("once", triggers=(OnEvent("shop/once"),))
    runtime.flows = {"once": Flow(once, lambda ctx: None, RetryPolicy())}
    register_worker(runtime)
    sent = flat(team.run(4, send_same_ids, url, keys, sound))
    runs = rows_of(
        store,
        "SELECT e.ext_id, r.id, r.status, r.reason FROM flows_runs r JOIN flows_events e ON e.id = r.event_id",
    )
    started = {run_id: key for key, run_id, status, _ in runs if status == "queued"}
    assert sorted(started) == sorted(sent)
    for key, _, status, reason in runs:
        if status == "skipped" and sound:
            [winner] = [run_id for run_id, of in started.items() if of == key]
            assert reason.endswith(f"has started run {winner}")
    counts = Counter(key for key in started.values() if key in set(keys))
    assert sum(1 for key, *_ in runs if key in set(keys)) == 4 * len(keys)
    return Counter(counts[key] for key in keys)


def test_an_id_that_many_send_at_once_starts_one_run(store: Store, migrated_url: str, team: Team) -> None:
    assert starts(team, store, migrated_url, [f"k{n}" for n in range(SHORT)]) == {1: SHORT}


def test_without_the_key_an_id_starts_several_runs(store: Store, migrated_url: str, team: Team) -> None:
    batches = ([f"k{batch}-{n}" for n in range(BATCH)] for batch in range(BATCHES))
    assert any(max(starts(team, store, migrated_url, keys, sound=False)) > 1 for keys in batches)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_each_of_1000_ids_starts_one_run(store: Store, migrated_url: str, team: Team) -> None:
    assert starts(team, store, migrated_url, [f"k{n}" for n in range(1000)]) == {1: 1000}
