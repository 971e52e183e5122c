"""`flows limits` in a terminal beside real workers: who is inside each limit, who waits, and that all is free after."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from celery import Celery

from celeryflows import Event
from tests.acceptance.crew import Crew
from tests.celery.apps import held
from tests.waiting import eventually
from tests.workers import ROOT
from tests.worlds import BRISK, World


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world("postgres", worker_disable_prefetch=True, **BRISK)


@pytest.fixture
def app(world: World) -> Iterator[Celery]:
    with ExitStack() as stack:
        Crew(world, stack, "tests.celery.apps.held").hire_many(2, "-c", "2")
        yield world.app(held.sheet)


def shown(world: World, *options: str) -> str:
    """What the command prints on a terminal of 120 columns."""
    command = [sys.executable, "-m", "celery", "-A", "tests.celery.apps.held", "flows", "limits", *options]
    env = {**os.environ, **world.env, "COLUMNS": "120", "NO_COLOR": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


def test_a_terminal_shows_who_is_inside_and_who_waits_until_all_have_gone(world: World, app: Celery) -> None:
    orders = [Event("held/ordered", {"account": account}) for account in ("a1", "a1", "a2", "a3", "a4", "a4")]
    app.flows.send(orders)  # type: ignore[attr-defined]
    app.flows.send([Event("held/paid") for _ in range(3)])  # type: ignore[attr-defined]
    eventually(lambda: len(world.lines()) == 3, within=30)

    head, *rows = [" ".join(line.split()) for line in shown(world).splitlines() if line.strip()]
    assert head == "limit flow key value use waiting oldest"
    of_account = "concurrency held.ship event.data.account"
    for expected in (
        f'{of_account} "a1" 1 of 1 1 20',
        f'{of_account} "a4" 1 of 1 1 20',
        # Who has its account's slot and none of the three waits there.
        "concurrency held.ship 3 of 3 1 20",
        "throttle held.bill 1 each 1 hour, next 20",
    ):
        assert sum(row.startswith(expected) for row in rows) == 1, rows
    assert {f'{of_account} "a2" 1 of 1 0', f'{of_account} "a3" 1 of 1 0'} <= set(rows)

    found = {(one["kind"], one["value"]): one for one in json.loads(shown(world, "--json"))["limits"]}
    assert (found["concurrency", None]["used"], found["concurrency", None]["capacity"]) == (3, 3)
    assert found["throttle", None]["waiting"] == 2
    assert "held.ship" not in shown(world, "--flow", "held.bill")

    world.open_gate("packed")
    eventually(lambda: world.rows("SELECT 1 FROM flows_slots WHERE run_id IS NOT NULL") == [], within=60)
    assert len(world.lines()) == 6
    assert "held.ship" not in shown(world)
