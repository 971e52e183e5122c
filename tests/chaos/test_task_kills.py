"""Chords in the workers of another app, while workers of both apps are killed: every run ends, with the right value."""

import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from tests.celery.apps import remote
from tests.kinds import KINDS
from tests.waiting import eventually
from tests.worlds import BRISK, World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]

RUNS, KILLS = 40, 14
OURS = ("tests.celery.apps.remote", "-c", "2", "-Q", "celery,side")
DEPOT = ("tests.celery.apps.depot", "-c", "2", "-Q", "depot")


@pytest.mark.parametrize("kind", KINDS)
def test_every_run_ends_rightly_whichever_workers_are_killed(make_world: Callable[..., World], kind: str) -> None:
    world, dice = make_world(kind, **BRISK), random.Random(7)
    app: Any = world.app(remote.sheet)
    with ExitStack() as stack:
        crew = [(kind, stack.enter_context(world.worker(*kind))) for kind in (OURS, OURS, DEPOT, DEPOT)]
        runs = {n: app.tasks["remote.sums"].delay(n=n).id for n in range(RUNS // 2)}
        for round in range(KILLS):
            place = dice.randrange(len(crew))
            options, victim = crew[place]
            victim.kill()
            crew[place] = (options, stack.enter_context(world.worker(*options)))
            more = range(RUNS // 2 + round * RUNS // 2 // KILLS, RUNS // 2 + (round + 1) * RUNS // 2 // KILLS)
            runs |= {n: app.tasks["remote.sums"].delay(n=n).id for n in more}
            time.sleep(dice.random())
        open_runs = "SELECT id, status FROM flows_runs WHERE status <> 'completed'"
        eventually(lambda: world.rows(open_runs) == [], within=240, every=0.5)

    assert len(runs) == RUNS
    assert {n: app.flows.run(run_id).output for n, run_id in runs.items()} == {n: 5 * n + 10 for n in runs}
    [(sent, again)] = world.rows("SELECT count(*), sum(sends) - count(*) FROM flows_tasks")
    print(f"{kind}: {sent} tasks, {again} of them sent again")  # noqa: T201
    assert sent == RUNS * 6
