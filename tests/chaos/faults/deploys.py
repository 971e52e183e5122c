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
from tests.chaos.arena import APP, NODES, POSTS, Arena
from tests.chaos.faults.shape import fault
from tests.chaos.kinds import Load
from tests.chaos.later import LESS, MORE, TODAY
from tests.chaos.sending import insist, send
from tests.workers import ROOT

WORKERS, STORE = "workers", "store"
MIGRATION_SECONDS = 200
FLOWS = ("celery", "-A", APP, "flows")


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
    command = [sys.executable, "-m", *FLOWS, "db", "upgrade"]
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


@fault("a later schema under the code of before (expand, contract), and back", STORE)
def later_schema(arena: Arena, load: Load, dice: Random) -> None:
    """Today's code goes on beside a schema that has more, and starts on it; the release after takes away what nobody
    needs by then. The way back is the same."""
    _migrate(arena, [*FLOWS, "db", "upgrade"], MORE)
    arena.fleet.strike(dice.choice(POSTS))
    arena.fleet.env["CHAOS_SCHEMA"] = MORE
    _deploy(arena)
    _migrate(arena, [*FLOWS, "db", "upgrade"], LESS)
    time.sleep(dice.uniform(0.5, 2.0))
    del arena.fleet.env["CHAOS_SCHEMA"]
    _migrate(arena, ["tests.chaos.later", arena.place.url, TODAY], None)
    _deploy(arena)


def _deploy(arena: Arena) -> None:
    for node in NODES:
        arena.fleet.deploy([post for post in POSTS if post.endswith(node)])


def _migrate(arena: Arena, words: list[str], schema: str | None) -> None:
    env = {**os.environ, **arena.world.env, "LEDGER": "", **({"CHAOS_SCHEMA": schema} if schema else {})}
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, env=env, capture_output=True, text=True, timeout=MIGRATION_SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr
