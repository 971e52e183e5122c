"""kill -9 of every worker at once, with runs in all states: the next workers bring each to its one end."""

from collections.abc import Callable
from contextlib import ExitStack

import pytest

from celeryflows import Event
from tests.acceptance.crew import Crew
from tests.celery.apps import rounds
from tests.chaos.ends import look, number_of, send_all
from tests.waiting import eventually
from tests.worlds import BRISK, World

STATES = {"queued", "running", "suspended", "completed"}


@pytest.mark.parametrize(("kind", "count"), [("sqlite", 120), ("postgres", 200)])
@pytest.mark.timeout(300)
def test_a_fleet_that_is_killed_leaves_no_run_behind(make_world: Callable[..., World], kind: str, count: int) -> None:
    play(make_world(kind, **BRISK), count)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
@pytest.mark.timeout(3600)
def test_a_fleet_that_is_killed_over_ten_thousand_runs_leaves_none_behind(
    make_world: Callable[..., World], kind: str
) -> None:
    play(make_world(kind, **BRISK), 10_000)


def play(world: World, count: int) -> None:
    """All are sent, some answered, until some stand in each state; then nobody is there any more."""
    app = world.app(rounds.sheet)
    names = [str(number) for number in range(count)]
    begun = [Event("rounds/begun", {"number": name}) for name in names]
    answers = [Event("rounds/answered", {"number": name, "word": f"word {name}"}) for name in names]
    with ExitStack() as stack:
        crew = Crew(world, stack, "tests.celery.apps.rounds")
        crew.hire_many(2, "-c", "2")
        send_all(app, begun)
        eventually(lambda: number_of(world, "started_at IS NOT NULL") > count // 8, within=60, every=0.2)
        send_all(app, answers[: count // 8])
        eventually(lambda: states(world) >= STATES, within=60, every=0.05)
        # Both at once, and only then is it waited for.
        for worker in crew.living:
            worker.kill()
        for worker in list(crew.living):
            crew.kill(worker)
        left = number_of(world, "ended_at IS NULL")
        assert left > count // 4
        before = dict(world.rows("SELECT id, output FROM flows_runs WHERE status = 'completed'"))
        crew.hire_many(2, "-c", "2")
        patience = 60 + count * 0.25
        eventually(lambda: number_of(world, "started_at IS NULL") == 0, within=patience, every=0.5)
        # An answer that came before its run's start was none of its own.
        send_all(app, answers)
        eventually(lambda: number_of(world, "ended_at IS NULL") == 0, within=patience, every=0.5)
        look(world, count)
        after = dict(world.rows("SELECT id, output FROM flows_runs"))
        assert {run: after[run] for run in before} == before


def states(world: World) -> set[str]:
    return {row[0] for row in world.rows("SELECT DISTINCT status FROM flows_runs")}
