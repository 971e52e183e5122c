"""The database finds a deadlock, or its file busy, at each statement of a whole story in turn: it is done again, and no
body for it."""

import pytest

from celeryflows.clock import TurnedClock
from tests.store.lossy import LossyStore
from tests.store.telling import STORIES, lossy, told, without_pauses

__all__ = ["lossy", "without_pauses"]

QUICKLY = [("postgres", "bought"), *(("sqlite", name) for name in STORIES if name != "held")]
# The longest are left to the long form, or tried at each seventh statement.
EACH = [
    pytest.param(name, kind, 1, marks=pytest.mark.slow if (kind, name) not in QUICKLY else ())
    for name in STORIES
    for kind in ("sqlite", "postgres")
]


@pytest.mark.parametrize(("name", "migrated_url", "each"), [*EACH, ("held", "sqlite", 7)], indirect=["migrated_url"])
def test_a_conflict_at_any_statement_is_tried_again_and_no_body_runs_twice_for_it(
    lossy: LossyStore, clock: TurnedClock, name: str, each: int
) -> None:
    whole = told(name, lossy, clock)
    expected = whole.end()
    assert whole.statements > 60
    for at in range(0, whole.statements, each):
        disturbed = told(name, lossy, clock, "conflict", at)
        assert disturbed.statements > at
        assert disturbed.repairs == 0
        assert disturbed.end() == expected, f"a conflict at statement {at}: {lossy.statements[at]}"
