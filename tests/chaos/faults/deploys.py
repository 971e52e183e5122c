"""Changes under running runs: new code, migrations, and payloads at their bounds."""

import os
import signal
import subprocess
import sys
import time
from random import Random

import pytest

from celeryflows import Event
from celeryflows.errors import FlowsError
from tests.chaos.arena import APP, POSTS, Arena
from tests.chaos.faults.shape import fault
from tests.chaos.kinds import Load
from tests.chaos.sending import insist, send
from tests.workers import ROOT

WORKERS, STORE = "workers", "store"
MIGRATION_SECONDS = 60


@fault("deploy of new code, worker by worker", WORKERS)
def deploy(arena: Arena, load: Load, dice: Random) -> None:
    """The other release of the two; its runs and those of the one before are one another's."""
    release = "1" if arena.fleet.env.get("CHAOS_RELEASE") == "2" else "2"
    arena.fleet.env["CHAOS_RELEASE"] = release
    for post in dice.sample(POSTS, len(POSTS)):
        arena.fleet.dismiss(post)
        arena.fleet.man(post)


@fault("payloads of 10 MB", WORKERS)
def bulky(arena: Arena, load: Load, dice: Random) -> None:
    """Runs of ten values of a megabyte go through; a value and an event of ten are refused by name."""
    send(arena, load, load.next(["bulky", "too_big"], 3))

    def send_too_big() -> None:
        with pytest.raises(FlowsError, match="524288"):
            arena.flows.send(Event("load/one", {"id": "x" * (10 << 20)}))

    insist(send_too_big)


@fault("flows db upgrade, two at once and one killed halfway", STORE)
def upgrade(arena: Arena, load: Load, dice: Random) -> None:
    command = [sys.executable, "-m", "celery", "-A", APP, "flows", "db", "upgrade"]
    env = {**os.environ, **arena.world.env, "LEDGER": ""}
    for _ in range(2):
        three = [
            subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            for _ in range(3)
        ]
        time.sleep(dice.uniform(0.8, 2.0))
        three[0].send_signal(signal.SIGKILL)
        for process in three:
            told, _ = process.communicate(timeout=MIGRATION_SECONDS)
            assert process.returncode in (0, -signal.SIGKILL), told.decode()
