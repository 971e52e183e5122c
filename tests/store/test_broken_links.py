"""The link to the store breaks at each commit of a whole story in turn: nothing is doubled and nothing is lost."""

from collections.abc import Iterator
from typing import Any

import pytest

from celeryflows.clock import TurnedClock
from tests.store.lossy import Break, LossyStore
from tests.store.telling import STORIES, lossy, told, without_pauses

__all__ = ["lossy", "without_pauses"]

SHORT = [name for name in STORIES if name != "held"]
LATER: tuple[Break, ...] = ("after", "during")
QUICK = ("quick 0", "quick 1", "quick 2")


@pytest.mark.parametrize(
    ("name", "ran", "ends"),
    [
        (
            "spread",
            dict.fromkeys(("first", "second", "third", "won", "after", "double", *QUICK), 1) | {"stumble": 2},
            {"completed": 2},
        ),
        ("bought", {"charge": 1, "ship": 1}, {"completed": 4}),
        (
            "held",
            dict.fromkeys([*(f"{what} {n}" for what in ("pack", "ship") for n in range(5)), "1", "pack 5"], 1),
            {"completed": 7, "cancelled": 1, "scheduled": 1},
        ),
        ("sad", {"flaky": 2, "body": 3, "cancelled: True": 1}, {"completed": 2, "failed": 1, "cancelled": 1}),
        ("linked", {"double": 1, "tick 2": 1, "tick 1": 1, "tick 0": 1}, {"completed": 6, "failed": 1}),
    ],
)
def test_a_story_that_nothing_breaks_ends_as_it_should(
    lossy: LossyStore, clock: TurnedClock, name: str, ran: dict[str, int], ends: dict[str, int]
) -> None:
    whole = told(name, lossy, clock)
    assert whole.repairs == 0
    assert (whole.end()["ran"], len(whole.end()["runs"])) == (ran, sum(ends.values()))
    for status, count in ends.items():
        assert sum(f"'{status}'" in run for run in whole.end()["runs"]) == count


def broken() -> Iterator[Any]:
    """Each story, and how its link breaks. A file has no link on which a commit could be under way."""
    for name in STORIES:
        yield from ((name, "sqlite", link) for link in ("before", "after"))
        # The longest are left to the long form here, "before" most of all: it is simply told again.
        slow = pytest.mark.slow
        yield from (pytest.param(name, "postgres", one, marks=slow if name == "held" else ()) for one in LATER)
        yield pytest.param(name, "postgres", "before", marks=slow if name in ("spread", "held") else ())
        maria = pytest.mark.mariadb
        yield pytest.param(name, "mariadb", "after", marks=[maria, slow] if name == "held" else maria)
        yield from (pytest.param(name, "mariadb", link, marks=[slow, maria]) for link in ("before", "during"))


@pytest.mark.parametrize(("name", "migrated_url", "link"), list(broken()), indirect=["migrated_url"])
def test_a_link_that_breaks_at_any_commit_doubles_and_loses_nothing(
    lossy: LossyStore, clock: TurnedClock, name: str, link: Break
) -> None:
    whole = told(name, lossy, clock)
    expected = whole.end()
    assert whole.commits > 15
    for at in range(whole.commits):
        broken = told(name, lossy, clock, link, at)
        assert broken.commits > at
        # What was committed without an answer leaves messages to recovery, at most once.
        assert broken.repairs <= 1
        assert broken.end() == expected, f"the link broke {link} commit {at}: {lossy.commits[at]}"


@pytest.mark.parametrize(
    "migrated_url",
    [
        "sqlite",
        pytest.param("postgres", marks=pytest.mark.slow),
        pytest.param("mariadb", marks=[pytest.mark.slow, pytest.mark.mariadb]),
    ],
    indirect=True,
)
@pytest.mark.parametrize("name", [*SHORT, pytest.param("held", marks=pytest.mark.slow)])
def test_an_outage_before_any_statement_is_survived_in_place(lossy: LossyStore, clock: TurnedClock, name: str) -> None:
    # The first time is another on MariaDB: rows that stand for locks are made then.
    told(name, lossy, clock)
    whole = told(name, lossy, clock)
    expected = whole.end()
    assert whole.statements > 60
    for at in range(whole.statements):
        broken = told(name, lossy, clock, "statement", at)
        assert broken.statements > at
        assert broken.repairs == 0
        assert broken.end() == expected, f"the link broke at statement {at}: {lossy.statements[at]}"


@pytest.mark.parametrize("migrated_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("name", SHORT)
def test_a_link_that_breaks_again_and_again_only_slows_a_story(
    lossy: LossyStore, clock: TurnedClock, name: str
) -> None:
    expected = told(name, lossy, clock).end()
    # A transaction has fewer statements than that, or it would never get through.
    every = 19
    for at in range(every):
        broken = told(name, lossy, clock, "statement", at, every)
        lossy.break_link("after", -1)
        assert broken.end() == expected, f"the link broke at statement {at} and each {every}th after it"
