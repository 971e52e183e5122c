"""kill -9 at random moments under load, round after round: nothing is lost, nothing that was recorded runs again.

The seed is printed; CHAOS_SEED=n repeats its kills."""

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

import pytest
from celery import Celery

from celeryflows import Event
from celeryflows.celery_bridge.bundling import TASK
from tests.acceptance.crew import Crew
from tests.celery.apps import rounds
from tests.kinds import KINDS
from tests.waiting import eventually
from tests.worlds import BRISK, World

RUNS, KILLS = 30, 4
STEPS = {"step0": "step 0", "step1": "step 1", "step2": "step 2", "stumble": "stumble", "last": "last"}


@pytest.mark.parametrize(
    ("kind", "count"), [("sqlite", 1), ("postgres", 2), pytest.param("mariadb", 2, marks=pytest.mark.mariadb)]
)
@pytest.mark.timeout(300)
def test_rounds_of_kills_lose_and_double_nothing(make_world: Callable[..., World], kind: str, count: int) -> None:
    play(make_world(kind, **BRISK), count)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(1800)
def test_twenty_rounds_of_kills_lose_and_double_nothing(make_world: Callable[..., World], kind: str) -> None:
    play(make_world(kind, **BRISK), 20)


def play(world: World, count: int) -> None:
    """Rounds with two workers of two processes each; a worker that is killed whole is replaced."""
    seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(10**6))
    print(f"CHAOS_SEED={seed}")  # noqa: T201
    dice = random.Random(seed)
    # Those of one list travel together in every other round.
    world.count_as_quick("rounds.whole")
    app = world.app(rounds.sheet)
    with ExitStack() as stack:
        crew = Crew(world, stack, "tests.celery.apps.rounds")
        crew.hire_many(2, "-c", "2")
        for number in range(count):
            one_round(world, app, crew, dice, number)
        assert any(f"Task {TASK}[" in worker.log for worker in crew.living)


def one_round(world: World, app: Celery, crew: Crew, dice: random.Random, number: int) -> None:
    """Send, kill, answer, wait for the ends, look."""
    names = [f"{number}.{i}" for i in range(RUNS)]
    begun = [Event("rounds/begun", {"number": name}) for name in names]
    lists = [begun] if number % 2 == 0 else [begun[: RUNS // 2], begun[RUNS // 2 :]]
    events = [id for one in lists for id in app.flows.send(one)]
    answers = [Event("rounds/answered", {"number": name, "word": f"word {name}"}) for name in names]
    for kill in range(KILLS):
        time.sleep(dice.uniform(0.05, 0.8))
        strike(crew, dice, whole=kill == KILLS - 1)
        app.flows.send(answers[kill::KILLS])
    # An answer that came before its run's start is none of its own: each is sent once more.
    eventually(lambda: count_of(world, "started_at IS NULL") == 0, within=60, every=0.2)
    app.flows.send(answers)
    eventually(lambda: count_of(world, "ended_at IS NULL") == 0, within=60, every=0.2)
    for event, name in zip(events, names, strict=True):
        look(world, event, f"word {name}")


def strike(crew: Crew, dice: random.Random, *, whole: bool) -> None:
    """Kill a pool's process, or a whole worker."""
    victim = dice.choice(crew.living)
    if whole:
        crew.kill(victim)
        crew.hire("-c", "2")
    elif victim.children:
        with suppress(ProcessLookupError):
            os.kill(dice.choice(victim.children), signal.SIGKILL)


def count_of(world: World, condition: str) -> int:
    """How many runs are so."""
    return int(world.rows(f"SELECT count(*) FROM flows_runs WHERE {condition}")[0][0])


def look(world: World, event: str, word: str) -> None:
    """The event's one run completed; each recorded value is the last execution's; the run's value is made of them."""
    rows = world.rows("SELECT id, status, output FROM flows_runs WHERE event_id = :event", event=event)
    assert [row[1] for row in rows] == ["completed"], rows
    run_id, _, output = rows[0]
    steps = dict(world.rows("SELECT key, value FROM flows_steps WHERE run_id = :run AND kind = 'run'", run=run_id))
    executed: dict[str, list[str]] = {}
    for line in world.lines():
        if line.startswith(run_id):
            _, step, execution = line.split(" ")
            executed.setdefault(step, []).append(execution)
    recorded = {step: steps[key].strip('"') for step, key in STEPS.items()}
    # A body that ran again after its value was recorded would be a later execution than the recorded one.
    assert recorded == {step: executed[step][-1] for step in STEPS}
    values = [*recorded.values(), word]
    assert output == "[" + ",".join(f'"{value}"' for value in values) + "]"
