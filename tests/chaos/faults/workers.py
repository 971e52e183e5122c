"""Workers and their processes die, freeze, and have clocks that are wrong."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from random import Random

from celeryflows.errors import FlowsError
from tests.chaos.arena import POSTS, Arena
from tests.chaos.faults.shape import SERVERS, NotHere, fault
from tests.chaos.kinds import Load
from tests.chaos.ledger import BEGAN
from tests.chaos.sending import send
from tests.servers import temporary_folder
from tests.waiting import eventually
from tests.workers import Worker

WORKERS = "workers"
# After four seconds another leads; when that one has looked on for four more, a silent worker's runs go to others.
LONGER_THAN_THE_LEASE = 11.0
BENT = Path(__file__).parents[1] / "bent"
LIBRARIES = ("libfaketimeMT.so.1", "libfaketime.so.1")


@fault("kill -9 of pool children", WORKERS)
def kill_children(arena: Arena, load: Load, dice: Random) -> None:
    for _ in range(4):
        time.sleep(dice.uniform(0.2, 0.8))
        with arena.fleet.lock:
            children = arena.fleet.at[dice.choice(POSTS)].children
            if children:
                with suppress(ProcessLookupError):
                    os.kill(dice.choice(children), signal.SIGKILL)


@fault("kill -9 of a worker", WORKERS)
def kill_worker(arena: Arena, load: Load, dice: Random) -> None:
    time.sleep(dice.uniform(0.2, 1.0))
    arena.fleet.strike(dice.choice(POSTS))


@fault("kill -9 of the leader", WORKERS)
def kill_leader(arena: Arena, load: Load, dice: Random) -> None:
    time.sleep(dice.uniform(0.2, 1.0))
    # In a storm the store may be away.
    with suppress(FlowsError):
        post = arena.fleet.leading_post()
        if post is not None:
            arena.fleet.strike(post)


@fault("kill -9 of all workers", WORKERS)
def kill_all(arena: Arena, load: Load, dice: Random) -> None:
    time.sleep(dice.uniform(0.2, 1.0))
    with arena.fleet.lock:
        for worker in arena.fleet.at.values():
            worker.kill()
        arena.fleet.mend()


@fault("SIGSTOP past the lease, then SIGCONT", WORKERS)
def freeze(arena: Arena, load: Load, dice: Random) -> None:
    time.sleep(dice.uniform(0.5, 1.0))
    with arena.fleet.lock:
        # One in the middle of a step that takes long, and one that is anywhere.
        frozen = [worker for worker in (_at_work(arena), arena.fleet.at[dice.choice(POSTS)]) if worker is not None]
        for worker in frozen:
            with suppress(ProcessLookupError):
                worker.freeze()
        time.sleep(LONGER_THAN_THE_LEASE)
        for worker in frozen:
            with suppress(ProcessLookupError):
                worker.thaw()


def _at_work(arena: Arena) -> Worker | None:
    """A worker of which a process is in a long step; None when there is none soon."""
    with suppress(AssertionError):
        return eventually(lambda: _first_at_work(arena), within=5.0)
    return None


def _first_at_work(arena: Arena) -> Worker | None:
    told = arena.ledger.newest(60)
    ended = {(line.run, line.turn) for line in told if line.key == "long" and line.what != BEGAN}
    began = [line for line in told if line.key == "long" and line.what == BEGAN]
    inside = {line.pid for line in began if (line.run, line.turn) not in ended}
    owners = (worker for worker in arena.fleet.living if inside & set(worker.children))
    return next(owners, None)


@fault("a step that kills its process", WORKERS)
def poison(arena: Arena, load: Load, dice: Random) -> None:
    send(arena, load, load.next(["poison"], 2))


@fault("the clock of one worker five minutes off, back and forth", WORKERS, SERVERS)
def wrong_clock(arena: Arena, load: Load, dice: Random) -> None:
    post = dice.choice(POSTS)
    with temporary_folder("clock") as folder:
        off = folder / "off"
        off.write_text("+0")
        bent = faked(off)
        arena.fleet.dismiss(post)
        arena.fleet.man(post, env=bent)
        for minutes in (5, -5, 5):
            off.write_text(f"{minutes * dice.uniform(0.5, 1):+.1f}m")
            time.sleep(dice.uniform(1.5, 2.5))
        arena.fleet.dismiss(post)
        arena.fleet.man(post)


def faked(off: Path) -> dict[str, str]:
    """The environment of a process whose clock is off by what the file says. Raises NotHere."""
    libraries = [path for name in LIBRARIES for path in Path("/usr/lib").glob(f"**/faketime/{name}")]
    if not libraries:
        raise NotHere("no libfaketime here: apt-get install libfaketime")
    return {
        "LD_PRELOAD": str(libraries[0]),
        "FAKETIME_TIMESTAMP_FILE": str(off),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_RESET": "1",
        "PYTHONPATH": str(BENT),
    }
