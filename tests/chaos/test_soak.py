"""A soak: load without end, a kill every twenty seconds; nothing is lost or doubled, and nothing grows.

FLOWS_SOAK_MINUTES is how long (5); CHAOS_SEED=n repeats its kills."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from itertools import count as counting
from pathlib import Path

import pytest
from celery import Celery

from celeryflows import Event
from tests.acceptance.crew import Crew
from tests.celery.apps import rounds
from tests.chaos.ends import look, number_of, send_all
from tests.waiting import eventually
from tests.workers import Worker
from tests.worlds import BRISK, World

MINUTES = float(os.environ.get("FLOWS_SOAK_MINUTES", "5"))
KILL_EVERY, SENT_AT_ONCE, OPEN_AT_MOST = 20.0, 5, 60
# Celery keeps each result for a day by itself.
KEPT_BY_CELERY = b"celery-task-meta-"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
@pytest.mark.timeout(MINUTES * 60 + 900)
def test_nothing_is_lost_doubled_or_grows_while_somebody_is_killed_every_twenty_seconds(
    make_world: Callable[..., World], kind: str
) -> None:
    world = make_world(kind, **BRISK)
    seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(10**6))
    dice, app = random.Random(seed), world.app(rounds.sheet)
    with ExitStack() as stack:
        crew = Crew(world, stack, "tests.celery.apps.rounds")
        # Its main process is never killed: what grows would grow in it.
        elder = crew.hire("-c", "2")
        crew.hire("-c", "2")
        numbers = iter(counting())
        load(world, app, numbers, until=time.monotonic() + 20)
        rest(world)
        before = sizes(world, elder)
        end = time.monotonic() + MINUTES * 60
        kills = 0
        while time.monotonic() < end:
            load(world, app, numbers, until=min(end, time.monotonic() + KILL_EVERY))
            strike(crew, elder, dice)
            kills += 1
        rest(world)
        sent = next(numbers)
        print(f"CHAOS_SEED={seed}: {sent} runs, {kills} kills, {before} grew to {sizes(world, elder)}")  # noqa: T201
        eventually(lambda: have_not_grown(sizes(world, elder), before), within=30, every=1)
        look(world, sent)


def load(world: World, app: Celery, numbers: Iterator[int], until: float) -> None:
    """Send and answer; as much as the workers can take."""
    while time.monotonic() < until:
        time.sleep(0.5)
        if number_of(world, "ended_at IS NULL") < OPEN_AT_MOST:
            names = [str(next(numbers)) for _ in range(SENT_AT_ONCE)]
            app.flows.send([Event("rounds/begun", {"number": name}) for name in names])
        answer(world, app)


def answer(world: World, app: Celery) -> None:
    """Whoever waits is answered."""
    waiting = world.rows("SELECT value FROM flows_waits WHERE state = 'open' AND kind = 'event'")
    send_all(app, [Event("rounds/answered", {"number": row[0].strip('"'), "word": "word"}) for row in waiting])


def rest(world: World) -> None:
    """All that was sent ends."""

    def ended() -> bool:
        return number_of(world, "ended_at IS NULL") == 0

    app = world.app(rounds.sheet)
    eventually(lambda: answer(world, app) or ended(), within=180, every=0.5)


def strike(crew: Crew, elder: Worker, dice: random.Random) -> None:
    """Kill a pool's process, or a whole worker, which is replaced."""
    victim = dice.choice(crew.living)
    if victim is not elder and dice.random() < 0.5:
        crew.kill(victim)
        crew.hire("-c", "2")
    elif victim.children:
        with suppress(ProcessLookupError):
            os.kill(dice.choice(victim.children), signal.SIGKILL)


def sizes(world: World, elder: Worker) -> tuple[int, ...]:
    """Open files and threads of the elder's main process, and keys in the broker."""
    with world.redis() as client:
        keys = [key for key in client.scan_iter(count=1000) if not key.startswith(KEPT_BY_CELERY)]
    process = Path(f"/proc/{elder.pid}")
    threads = next(line for line in (process / "status").read_text().splitlines() if line.startswith("Threads:"))
    return len(list((process / "fd").iterdir())), int(threads.split()[1]), len(keys)


def have_not_grown(sizes: tuple[int, ...], before: tuple[int, ...]) -> bool:
    """A few more are no growth: a connection is open or not."""
    return all(size <= first + 8 for size, first in zip(sizes, before, strict=True))
