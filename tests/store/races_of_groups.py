"""What racing processes do to a group: all take every unit's messages again and again, and turns from each other."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch

from celeryflows.engine.resume import requeue
from celeryflows.engine.runtime import Runtime
from celeryflows.engine.turn import take_turn
from celeryflows.model.retries import RetryPolicy
from celeryflows.store import groups
from celeryflows.store.branches import Branches
from celeryflows.store.connection import Connection
from celeryflows.store.database import Store
from celeryflows.store.runs import Held
from tests.store.making import FLOW, a_runtime
from tests.store.team import Racer

BRANCHES = 4
PATIENCE = 60.0


def branch(racer: Racer, ctx: Any, number: int) -> list[int]:
    """Two steps that take their time."""
    first = ctx.step.run("a", body, racer, number)
    return [first, ctx.step.run("a", body, racer, first + 10)]


def body(racer: Racer, value: int) -> int:
    racer.pause(0.004)
    return value


def handler_of(racer: Racer, kind: str) -> Callable[[Any], Any]:
    """A group, and a step behind it."""

    def nested(ctx: Any) -> Any:
        inner = [partial(branch, racer, ctx, number) for number in range(2)]
        outer = [partial(ctx.group.race, inner), partial(branch, racer, ctx, 2), partial(branch, racer, ctx, 3)]
        return ctx.step.run("after", lambda values: values, ctx.group.race(outer))

    def handler(ctx: Any) -> Any:
        if kind == "nested":
            return nested(ctx)
        branches = [partial(branch, racer, ctx, number) for number in range(BRANCHES)]
        values = ctx.group.parallel(branches) if kind == "parallel" else ctx.group.race(branches)
        return ctx.step.run("after", lambda: values)

    return handler


def all_at_once(racer: Racer, url: str, run_ids: list[str], kind: str, sound: bool) -> int:
    """Play until all runs have ended; how many turns were taken from their workers."""
    with racer.store(url, "COMMIT", most=0.003) as store, ExitStack() as stack:
        if not sound:
            # Who ends in a race that was won wins it too, for nobody was told to stop.
            stack.enter_context(patch.object(groups, "ARRIVE", groups.ARRIVE.replace(" AND state = 'open'", "")))
            stack.enter_context(patch.object(Branches, "cancel_below", lambda *_: 0))
        runtime = a_runtime(store, {FLOW: handler_of(racer, kind)})
        # A step that is lost again and again fails in the end, which is not what is looked for here.
        runtime.settings = replace(runtime.settings, max_lost=10_000)
        runtime.flows = {FLOW: replace(runtime.flows[FLOW], policy=RetryPolicy(retries=20))}
        until, stolen = time.monotonic() + PATIENCE, 0
        inner = [f"group[0]/group[{n}]" for n in range(2)] if kind == "nested" else []
        paths = ["", *inner, *(f"group[{n}]" for n in range(BRANCHES))]
        units = [(run, path) for run in run_ids for path in paths]
        racer.meet()
        while time.monotonic() < until and _left(store):
            racer.dice.shuffle(units)
            for run, path in units:
                take_turn(runtime, run, branch=path)
                if racer.dice.random() < 0.3:
                    stolen += _steal(runtime)
        return stolen


def _left(store: Store) -> bool:
    with store.connection() as connection:
        return bool(connection.execute("SELECT 1 FROM flows_runs WHERE ended_at IS NULL LIMIT 1"))


def _steal(runtime: Runtime) -> bool:
    """A branch that is at work elsewhere is taken for lost: what goes on there is a zombie's."""

    def running(connection: Connection) -> list[Held]:
        return [
            Held(*row)
            for row in connection.execute(
                "SELECT run_id, turn, worker, claim_tok, path FROM flows_branches WHERE status = 'running' "
                "AND lost < 10 ORDER BY lost, claim_tok LIMIT 1"
            )
        ]

    with runtime.store.connection() as connection:
        found = running(connection)
    return bool(found) and requeue(runtime, found[0])
