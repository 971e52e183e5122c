"""Every two limits of one flow: refused where they are declared, with the reason, or both hold and nothing is stuck."""

import re
from itertools import combinations
from pathlib import Path

import pytest

from celeryflows import DeclarationError, Status
from tests.engine.pairs import LAWS, OPTIONS, in_order, played
from tests.engine.world import World, statuses

REFUSED = {
    ("batch", "singleton that skips"): "would take all its events with it",
    ("batch", "singleton that cancels"): "would take all its events with it",
}
PAIRS = [pair for pair in combinations(OPTIONS, 2) if OPTIONS[pair[0]].keys() != OPTIONS[pair[1]].keys()]
ENDED = {Status.COMPLETED, Status.SKIPPED, Status.CANCELLED}
NAMES = sorted({name for option in OPTIONS.values() for name in option})
DOCS = Path(__file__).parents[2] / "docs" / "limits.md"


@pytest.mark.parametrize("pair", PAIRS, ids=" and ".join)
def test_two_limits_are_refused_with_the_reason_or_hold_together(turned: World, pair: tuple[str, str]) -> None:
    if pair in REFUSED:
        with pytest.raises(DeclarationError, match=f"flow 'shop.index': .* do not go together: .*{REFUSED[pair]}"):
            played(turned, pair)
        return
    traffic = played(turned, pair)
    for option in pair:
        LAWS[option](traffic)

    assert set(statuses(turned.runs())) <= ENDED
    # What was sent last, and after a long quiet, is in a handler, or what kept it out says why.
    last = {n for n, (at, _) in traffic.sent.items() if at == max(at for at, _ in traffic.sent.values())}
    why = {reason for run in traffic.runs if (reason := run["reason"])}
    assert last <= traffic.seen.keys() or (why and traffic.is_dropped())
    for table in ("queue", "debounces", "batches"):
        assert turned.store_rows(f"SELECT 1 FROM flows_{table}") == []
    assert turned.store_rows("SELECT 1 FROM flows_slots WHERE run_id IS NOT NULL") == []


@pytest.mark.parametrize("option", OPTIONS)
def test_without_its_limit_each_law_is_broken(world: World, option: str) -> None:
    traffic = played(world, ())
    with pytest.raises(AssertionError):
        LAWS[option](traffic)


def test_without_a_priority_who_waits_is_not_in_its_order(world: World) -> None:
    with pytest.raises(AssertionError):
        in_order(played(world, ("one concurrency",)))


def test_the_table_names_each_pair_of_options_once() -> None:
    met = {frozenset(OPTIONS[a].keys() | OPTIONS[b].keys()) for a, b in PAIRS}
    assert met == {frozenset(pair) for pair in combinations(NAMES, 2)}


def test_the_page_says_of_each_pair_what_is_true() -> None:
    table = re.findall(r"^\| `(\w+)` \|(.*)\|$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    names = [name for name, _ in table if name in NAMES]
    said = {
        frozenset((name, names[column])): cell.strip()
        for name, row in table
        if name in NAMES
        for column, cell in enumerate(row.split("|"))
        if cell.strip()
    }
    refused = {frozenset(name for option in pair for name in OPTIONS[option]) for pair in REFUSED}
    assert {pair for pair in said if len(pair) == 2} == {frozenset(pair) for pair in combinations(NAMES, 2)}
    assert {pair for pair, cell in said.items() if cell == "no"} == refused
