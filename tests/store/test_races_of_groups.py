"""Groups under doubled messages and lost workers, over processes: one turn after the last, one winner of a race."""

import json
from collections.abc import Iterator

import pytest

from celeryflows.store.database import Store
from tests.store.making import put_run, rows_of
from tests.store.races_of_groups import BRANCHES, all_at_once
from tests.store.team import Team

RACERS = 3
STEPS = 2 * BRANCHES


@pytest.fixture(scope="module")
def team() -> Iterator[Team]:
    made = Team(RACERS)
    yield made
    made.stop()


def play(team: Team, store: Store, url: str, kind: str, count: int, *, sound: bool = True) -> list[tuple[int, str]]:
    """The turns and the outputs of so many runs, of which some turn was stolen from its worker."""

    def some_are_stolen() -> bool:
        _empty(store)
        run_ids = [put_run(store) for _ in range(count)]
        return sum(team.run(RACERS, all_at_once, url, run_ids, kind, sound)) > 0

    assert any(some_are_stolen() for _ in range(8))
    rows = rows_of(store, "SELECT status, turn, output FROM flows_runs")
    assert [row[0] for row in rows] == ["completed"] * count
    return [(row[1], row[2]) for row in rows]


def exactly_one_turn_follows(team: Team, store: Store, url: str, count: int) -> None:
    ends = play(team, store, url, "parallel", count)
    values = [[number, number + 10] for number in range(BRANCHES)]
    # The turn that opened the group, and the one that followed its last branch.
    assert [(turn, json.loads(output)) for turn, output in ends] == [(2, values)] * count
    assert rows_of(store, "SELECT count(*) FROM flows_steps WHERE branch <> ''") == [(count * STEPS,)]
    assert rows_of(store, "SELECT DISTINCT state, remaining FROM flows_groups") == [("done", 0)]
    assert rows_of(store, "SELECT DISTINCT status FROM flows_branches") == [("completed",)]


def exactly_one_wins(team: Team, store: Store, url: str, count: int) -> None:
    for turn, output in play(team, store, url, "race", count):
        index, value = json.loads(output)
        assert (turn, value) == (2, [index, index + 10])
    assert rows_of(store, "SELECT status, count(*) FROM flows_branches GROUP BY status ORDER BY status") == [
        ("cancelled", count * (BRANCHES - 1)),
        ("completed", count),
    ]
    winners = "SELECT count(*) FROM flows_groups g JOIN flows_branches b ON b.run_id = g.run_id AND b.idx = g.winner"
    assert rows_of(store, f"{winners} WHERE b.status = 'completed' AND g.state = 'won'") == [(count,)]


def test_one_turn_follows_the_last_branch_whatever_is_doubled_or_lost(
    store: Store, migrated_url: str, team: Team
) -> None:
    exactly_one_turn_follows(team, store, migrated_url, 15)


def test_a_race_has_one_winner_whatever_is_doubled_or_lost(store: Store, migrated_url: str, team: Team) -> None:
    exactly_one_wins(team, store, migrated_url, 15)


def each_race_in_a_race_has_one_winner(team: Team, store: Store, url: str, count: int, *, sound: bool = True) -> None:
    for turn, output in play(team, store, url, "nested", count, sound=sound):
        index, value = json.loads(output)
        if index == 0:
            inner, value = value
            assert value == [inner, inner + 10]
        else:
            assert value == [index + 1, index + 11]
        assert turn == 2
    assert rows_of(store, "SELECT 1 FROM flows_branches WHERE status NOT IN ('completed', 'cancelled')") == []
    winners = rows_of(
        store,
        "SELECT g.state, count(*) FROM flows_groups g JOIN flows_branches b ON b.run_id = g.run_id "
        "AND b.group_path = g.path AND b.status = 'completed' GROUP BY g.run_id, g.path, g.state",
    )
    assert set(winners) == {("won", 1)}
    assert len(winners) >= count
    # An inner race that was lost as a whole has no winner, and nothing of it goes on.
    assert rows_of(store, "SELECT 1 FROM flows_waits WHERE state = 'open'") == []


def test_a_race_in_a_race_has_one_winner_whatever_is_doubled_or_lost(
    store: Store, migrated_url: str, team: Team
) -> None:
    each_race_in_a_race_has_one_winner(team, store, migrated_url, 10)


def test_races_in_races_that_nobody_closes_are_seen_to_have_several_winners(
    store: Store, migrated_url: str, team: Team
) -> None:
    def play_some() -> None:
        for _ in range(5):
            each_race_in_a_race_has_one_winner(team, store, migrated_url, 6, sound=False)
            _empty(store)

    with pytest.raises(AssertionError):
        play_some()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_300_races_in_races_have_one_winner_each(store: Store, migrated_url: str, team: Team) -> None:
    for _ in range(6):
        each_race_in_a_race_has_one_winner(team, store, migrated_url, 50)
        _empty(store)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_one_turn_follows_the_last_branch_of_500_groups(store: Store, migrated_url: str, team: Team) -> None:
    for _ in range(10):
        exactly_one_turn_follows(team, store, migrated_url, 50)
        _empty(store)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_500_races_have_one_winner_each(store: Store, migrated_url: str, team: Team) -> None:
    for _ in range(10):
        exactly_one_wins(team, store, migrated_url, 50)
        _empty(store)


def _empty(store: Store) -> None:
    with store.begin() as tx:
        for table in ("runs", "steps", "branches", "groups"):
            tx.execute(f"DELETE FROM flows_{table}")
