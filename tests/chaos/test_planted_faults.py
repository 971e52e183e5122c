"""The harness sees what it is there for: an engine with a fault planted in it breaks a promise."""

import pytest

from tests.chaos import storm
from tests.chaos.findings import CHANGED, DOUBLED, EXCEEDED, LEAKED, STUCK
from tests.chaos.planted import PLANTS, VARIABLE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
FREEZE = "SIGSTOP past the lease, then SIGCONT"
# A planted fault that nobody mends: no use in waiting for long.
SOON = 20.0


@pytest.mark.parametrize(
    ("plant", "fault", "columns"),
    [
        ("no_fence", FREEZE, {CHANGED, DOUBLED}),
        ("no_resend", "FLUSHALL", {STUCK}),
        ("slots_kept", storm.NONE, {LEAKED}),
        ("wide_gates", storm.NONE, {EXCEEDED}),
        ("no_rates", storm.NONE, {EXCEEDED}),
    ],
)
def test_a_planted_fault_is_seen(monkeypatch: pytest.MonkeyPatch, plant: str, fault: str, columns: set[str]) -> None:
    monkeypatch.setenv(VARIABLE, plant)
    # The sender admits, too.
    PLANTS[plant](monkeypatch.setattr)
    monkeypatch.setattr(storm, "BOUND", SOON)
    found = dict.fromkeys(columns, 0)
    for seed in (1, 2, 3):
        for one in storm.storm(["postgres"], [fault], storm.Forecast(seed), storm.say):
            found = {column: found[column] + one.findings.count(column) for column in columns}
        if any(found.values()):
            break
    assert any(found.values()), found
