"""kill -9 between a transaction's statements and its commit, and between its commit and the reply: exactly once.

The seed is printed; CHAOS_SEED=n repeats its kills."""

import json
import os
import random
import subprocess
import sys

import pytest

from tests.workers import ROOT

# Whose connection the function of step.transaction gets.
GIVEN = ("sqlalchemy", "django")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("given", GIVEN)
def test_a_few_workers_killed_around_the_commit_have_written_each_runs_line_once(store_url: str, given: str) -> None:
    play(store_url, 21, given)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("given", GIVEN)
def test_two_hundred_workers_killed_around_the_commit_have_written_each_runs_line_once(
    store_url: str, given: str
) -> None:
    play(store_url, 201, given)


def play(url: str, rounds: int, given: str) -> None:
    """The rounds in a process of one thread; what it saw."""
    seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(10**6))
    program = [sys.executable, "-m", "tests.chaos.transaction_rounds", url, str(rounds), str(seed), given]
    ended = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=800, check=False)
    assert ended.returncode == 0, f"seed {seed}\n{ended.stderr[-4000:]}"
    seen = json.loads(ended.stdout)
    print(f"CHAOS_SEED={seed} {ended.stdout}")  # noqa: T201
    # Both sides of the commit were met, or the rounds have shown nothing.
    each = rounds // 3
    assert seen["statements: nothing written"] == each
    assert seen["committed: written"] == each
    assert sum(seen.values()) == rounds
