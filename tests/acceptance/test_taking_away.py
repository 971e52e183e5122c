"""`flows db upgrade` of a later release that takes something away, beside a real worker of today's."""

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from celeryflows.store.versions import schema_version
from tests.celery.apps import works
from tests.chaos.later import LESS, MORE
from tests.workers import ROOT
from tests.worlds import BRISK, World

UPGRADE = ("celery", "-A", "tests.celery.apps.mixed", "flows", "db", "upgrade")


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world(**BRISK)


def upgraded(world: World, schema: str, *options: str) -> Any:
    env = {**os.environ, **world.env, "LEDGER": "", "CHAOS_SCHEMA": schema}
    command = [sys.executable, "-m", *UPGRADE, *options]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)


def test_it_waits_for_the_workers_that_need_it_and_says_who_they_are(world: World) -> None:
    app: Any = world.app(works.sheet)
    with world.worker("tests.celery.apps.works", "-c", "1", "-n", "todays@here") as worker:
        assert upgraded(world, MORE).returncode == 0
        refused = upgraded(world, LESS)
        assert (refused.returncode, schema_version(world.store)) == (1, MORE)
        assert f"todays@here (pid {worker.pid}, 0" in refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1
        world.open_gate("on")
        world.ends(app.tasks["works.holds"].delay(gate="on").id)
        worker.stop()
    assert upgraded(world, LESS).stdout.endswith(f"has schema {LESS}\n")


def test_by_force_it_does_not_wait(world: World) -> None:
    with world.worker("tests.celery.apps.works", "-c", "1"):
        assert upgraded(world, LESS, "--force").returncode == 0
    assert schema_version(world.store) == LESS
