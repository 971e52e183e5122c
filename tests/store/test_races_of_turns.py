"""Turns that race over processes: the fence and the order of claim and memos hold, and taking them out shows."""

from collections.abc import Iterator

import pytest

from celeryflows.store.database import Store
from tests.store.making import put_run
from tests.store.races_of_turns import queued_with_an_open_wait, stale_memos, zombies
from tests.store.team import Team, slow_steps

SHORT = 200
# Broken on purpose it has to show within so many rounds, a batch at a time.
BATCH, BATCHES = 30, 12


@pytest.fixture(scope="module")
def team() -> Iterator[Team]:
    made = Team(2)
    yield made
    made.stop()


def unseen_records(team: Team, store: Store, url: str, rounds: int, *, sound: bool = True) -> tuple[int, int]:
    """How many zombies recorded, and how many of those records the turn after them did not see."""
    run_ids = [put_run(store) for _ in range(rounds)]
    recorded, seen = team.run(2, zombies, url, run_ids, sound)
    return sum(recorded), sum(was and not saw for was, saw in zip(recorded, seen, strict=True))


def stale_claims(team: Team, store: Store, url: str, rounds: int, *, sound: bool = True) -> tuple[int, int]:
    """How many claims came after the answer of a wait, and how many of those did not know of it."""
    with store.begin() as tx:
        tx.execute("DELETE FROM flows_waits")
    run_ids = [queued_with_an_open_wait(store, number) for number in range(rounds)]
    answers, claims = team.run(2, stale_memos, url, run_ids, sound)
    late = [knew for (locked, _), (at, knew) in zip(answers, claims, strict=True) if at > locked]
    return len(late), late.count(False)


@pytest.fixture
def slow(store: Store, request: pytest.FixtureRequest) -> Iterator[Store]:
    """The store, whose steps take their time between fence and insert."""
    slow_steps(store)
    yield store
    with store.engine.connect() as connection:
        connection.exec_driver_sql(
            "DROP FUNCTION slow CASCADE" if store.dialect.name == "postgresql" else "DROP TRIGGER slow"
        )


def test_what_a_zombie_records_is_seen_by_the_turn_after_it(slow: Store, migrated_url: str, team: Team) -> None:
    recorded, unseen = unseen_records(team, slow, migrated_url, SHORT)
    assert 0 < recorded < SHORT
    assert unseen == 0


def test_without_the_fence_a_zombie_records_unseen(slow: Store, migrated_url: str, team: Team) -> None:
    assert any(unseen_records(team, slow, migrated_url, BATCH, sound=False)[1] for _ in range(BATCHES))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_zombies_record_is_seen_in_3000_rounds(slow: Store, migrated_url: str, team: Team) -> None:
    recorded, unseen = unseen_records(team, slow, migrated_url, 3000)
    assert recorded > 300
    assert unseen == 0


def test_a_claim_knows_all_that_was_committed_before_it(store: Store, migrated_url: str, team: Team) -> None:
    late, stale = stale_claims(team, store, migrated_url, SHORT)
    assert late > 0
    assert stale == 0


def test_memos_read_with_the_claim_are_stale(store: Store, migrated_url: str, team: Team) -> None:
    assert any(stale_claims(team, store, migrated_url, BATCH, sound=False)[1] for _ in range(BATCHES))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_claims_know_what_was_committed_in_3000_rounds(store: Store, migrated_url: str, team: Team) -> None:
    late, stale = stale_claims(team, store, migrated_url, 3000)
    assert late > 300
    assert stale == 0
