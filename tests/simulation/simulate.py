"""One simulation from its programs and actions, and how many of them are tried.

FLOWS_SIMULATIONS is the number of examples, FLOWS_SEED the seed; without it the seed is always the same."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.simulation.choices import worlds
from tests.simulation.laws import check
from tests.simulation.link import hasty_retries
from tests.simulation.programs import Program
from tests.simulation.world import Action, World

EXAMPLES = int(os.environ.get("FLOWS_SIMULATIONS", "2000"))
SEED = int(os.environ.get("FLOWS_SEED", "1"))

RUNS = "SELECT id, status, turn, claim_tok, created_at, ended_at, output, error FROM flows_runs ORDER BY id"
STEPS = "SELECT run_id, key, state, attempts, value, turn, began, ended_at FROM flows_steps ORDER BY run_id, key"


def simulate(programs: Sequence[Program], actions: Sequence[Action]) -> list[tuple[Any, ...]]:
    """Let it all happen, come to rest, and look; what the store holds then."""
    world = World(programs)
    try:
        with hasty_retries(), _silence():
            world.act(Action("start"))
            for action in actions:
                world.act(action)
                world.ledger.check()
            world.settle()
        check(world)
        return world.look(STEPS) + world.look(RUNS)
    finally:
        world.close()


@contextmanager
def _silence() -> Iterator[None]:
    """Every world loses workers and links: what the engine says of it would fill the memory."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def simulations(
    examples: int, number: int, *phases: Phase, one: Callable[[Any, Any], object] = simulate, of: Any = worlds
) -> Callable[[], Any]:
    """So many worlds from a seed; calling it raises AssertionError for the first that breaks a law."""

    @seed(number)
    @settings(
        max_examples=examples,
        phases=phases or (Phase.generate, Phase.shrink),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(of)
    def try_all(chosen: tuple[Sequence[Program], Sequence[Action]]) -> None:
        one(*chosen)

    return try_all
