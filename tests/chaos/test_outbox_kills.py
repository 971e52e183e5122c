"""Transactions whose sender is killed at random: exactly what was committed starts, once.

The seed is printed; CHAOS_SEED=n repeats its throws."""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.kinds import KINDS
from tests.waiting import eventually
from tests.workers import ROOT
from tests.worlds import BRISK, World

FRAMEWORKS = ("django", "sqlalchemy")


@pytest.fixture(scope="module", params=KINDS)
def world(request: pytest.FixtureRequest, make_world: Callable[..., World]) -> Iterator[World]:
    made = make_world(request.param, **BRISK)
    with made.worker("tests.celery.apps.outbox", "-c", "2"):
        yield made


@pytest.mark.timeout(120)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_of_forty_sends_in_transactions_exactly_the_committed_ones_start_once(world: World, framework: str) -> None:
    play(world, framework, 40)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("kind", KINDS)
def test_of_five_hundred_sends_in_transactions_exactly_the_committed_ones_start_once(
    make_world: Callable[..., World], kind: str, framework: str
) -> None:
    made = make_world(kind, **BRISK)
    with made.worker("tests.celery.apps.outbox", "-c", "2"):
        play(made, framework, 500)


def play(world: World, framework: str, sends: int) -> None:
    """Send from processes that die, and count what the workers made of it."""
    seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(10**6))
    program = [sys.executable, "-m", "tests.chaos.outbox_rounds", framework, json.dumps(world.settings)]
    ended = subprocess.run(
        [*program, str(sends), str(seed)], cwd=ROOT, capture_output=True, text=True, timeout=500, check=False
    )
    assert ended.returncode == 0, f"seed {seed}\n{ended.stderr[-4000:]}"
    committed = [n for (n,) in world.rows(f"SELECT n FROM sent_by_{framework} ORDER BY n")]
    print(f"CHAOS_SEED={seed} {framework} {world.store.dialect.name}: {len(committed)} committed, {ended.stdout}")  # noqa: T201

    eventually(lambda: is_quiet(world), within=60, every=0.2)

    seen = json.loads(ended.stdout)
    # Many were killed, and some before their commit, or it has shown nothing.
    assert seen["killed"] >= sends // 4
    assert sends // 8 < len(committed) < sends // 2
    assert started(world, framework) == Counter(committed)


def is_quiet(world: World) -> bool:
    """Nothing is left to route, to start or to run."""
    (left,) = world.rows(
        "SELECT (SELECT count(*) FROM flows_events WHERE arrived_at IS NULL) + (SELECT count(*) FROM flows_calls) "
        "+ (SELECT count(*) FROM flows_runs WHERE status <> 'completed')"
    )
    return left == (0,)


def started(world: World, framework: str) -> Counter[int]:
    """How often each transaction's run was made."""
    rows = world.rows("SELECT output FROM flows_runs WHERE status = 'completed'")
    outputs = [json.loads(text) for (text,) in rows]
    return Counter(n for by, n in outputs if by == framework)
