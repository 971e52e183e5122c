"""Lost messages under racing leaders: each is sent again once, and what was claimed meanwhile is not."""

from collections import Counter
from collections.abc import Iterator

import pytest

from celeryflows.store.database import Store
from tests.store.making import put_run, rows_of
from tests.store.races_of_messages import send_again
from tests.store.team import Team, flat

RUNS, LOOKS = 40, 3


@pytest.fixture(scope="module")
def team() -> Iterator[Team]:
    made = Team(4)
    yield made
    made.stop()


def copies(team: Team, store: Store, url: str, *, same_epoch: bool, sound: bool = True) -> Counter[str]:
    """How often each run was sent again; each look finds what is queued long after its message was sent."""
    for _ in range(RUNS):
        put_run(store)
    found: Counter[str] = Counter()
    turns = 0
    for look in range(LOOKS):
        # Half a minute ago: each patience doubles, so that a second look may send again once more.
        rows_of(store, "UPDATE flows_runs SET sent_at = sent_at - 30000000 WHERE status = 'queued' RETURNING id")
        answers = team.run(4, send_again, url, ["e" if same_epoch else f"e{look}"], sound)
        each = Counter(flat([sent for sent, _ in answers]))
        assert not sound or set(each.values()) <= {1}, each
        found += each
        turns += sum(taken for _, taken in answers)
    ends = dict(rows_of(store, "SELECT status, count(*) FROM flows_runs GROUP BY status"))
    assert ends.get("completed", 0) == turns > 0
    assert sum(ends.values()) == RUNS
    return found


@pytest.mark.parametrize("same_epoch", [True, False])
def test_of_leaders_that_look_at_once_one_sends_a_lost_message_again(
    store: Store, migrated_url: str, team: Team, same_epoch: bool
) -> None:
    found = copies(team, store, migrated_url, same_epoch=same_epoch)
    # What was never claimed was sent again in each look, as long as its patience is: 5, 10, 20 seconds.
    queued = {row[0] for row in rows_of(store, "SELECT id FROM flows_runs WHERE status = 'queued'")}
    assert queued <= set(found)
    assert max(found.values()) <= LOOKS


def test_without_the_compare_and_set_a_lost_message_is_sent_by_several(
    store: Store, migrated_url: str, team: Team
) -> None:
    found = copies(team, store, migrated_url, same_epoch=True, sound=False)
    assert max(found.values()) > LOOKS
