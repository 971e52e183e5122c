"""What racing processes do at the gates: send, take turns, sleep, branch, cancel and die. Each is its own worker."""

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

from celeryflows.engine.finish import cancel
from celeryflows.engine.intake import send
from celeryflows.engine.registrar import register_worker
from celeryflows.engine.resume import requeue, wake_branches, wake_due
from celeryflows.engine.runtime import Flow, Runtime
from celeryflows.engine.turn import take_turn
from celeryflows.model.events import Event
from celeryflows.model.flows import FlowDefinition
from celeryflows.model.limits import Concurrency, Limits
from celeryflows.model.retries import RetryPolicy
from celeryflows.model.triggers import OnEvent
from celeryflows.scheduler.doorkeeper import let_in
from celeryflows.scheduler.inline import InlineDispatcher
from celeryflows.schemas import SchemaRegistry
from celeryflows.store.database import Store
from celeryflows.store.gates import Gates
from celeryflows.store.standings import Standings
from tests.store.witness import Witness

# One process imports all that is needed, the workers are forked from it: a start costs as good as nothing.
CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__])
USER, ITEM = "event.data.user", "event.data.item"
# By flow: its limits, each with the field by whose value it counts.
LIMITS: dict[str, tuple[Concurrency, ...]] = {
    "hot": (Concurrency(3),),
    "nested": (Concurrency(2, key=USER), Concurrency(3)),
    "crossing": (Concurrency(2, key=USER), Concurrency(2, key=ITEM)),
    "shared": (Concurrency(2, key=ITEM, scope="app"), Concurrency(3)),
    "sharing": (Concurrency(2, key=ITEM, scope="app"), Concurrency(1, key=USER)),
}


# What a worker does wrong: it hands slots on whatever their number, or leaves those of who lost a race where they are.
Fault = Literal["hands on blindly", "forgets losers"]


@dataclass(frozen=True)
class Race:
    """One race: where, by how many, and what happens in it."""

    url: str
    folder: str
    flows: tuple[str, ...] = tuple(LIMITS)
    runs: int = 100
    cancels: bool = True
    branches: bool = True
    seconds: float = 90.0
    kinds: tuple[str, ...] = ("plain", "plain", "sleeps", "branches", "races", "nests")
    fault: Fault | None = None

    @property
    def lowered(self) -> Path:
        """A file that is there while the limits are lowered to the number in it, and nobody above it is inside."""
        return Path(self.folder) / "lowered"

    def declared(self, worker: str) -> Path:
        """A file that is there once the worker has declared its flows: who does so later changes the limits back."""
        return Path(self.folder) / f"declared-{worker}"


def names_of(flow: str, event: dict[str, Any], race: Race) -> list[tuple[str, int]]:
    """Where the witness counts a turn of the flow, and how many may be there."""
    number = int(race.lowered.read_text()) if race.lowered.exists() else None
    found = []
    for one in LIMITS[flow]:
        value = event[one.key.rpartition(".")[2]] if one.key else ""
        found.append((f"{'app' if one.scope == 'app' else flow}.{one.key or ''}.{value}", number or one.limit))
    return found


def handler_of(flow: str, witness: Witness, dice: random.Random, race: Race) -> Callable[[Any], Any]:
    """Two looks of the witness, with a sleep or a group between."""

    def look(ctx: Any) -> None:
        names = names_of(flow, ctx.event.data, race)
        with witness.inside(*names[0]):
            if len(names) > 1:
                with witness.inside(*names[1]):
                    time.sleep(dice.random() * 0.004)
            else:
                time.sleep(dice.random() * 0.004)

    def branch(ctx: Any, n: int) -> int:
        ctx.step.run("look", look, ctx)
        return n

    def handler(ctx: Any) -> Any:
        ctx.step.run("first", look, ctx)
        kind = ctx.event.data["kind"]
        if kind == "sleeps":
            ctx.step.sleep("nap", "2ms")
        elif kind == "branches" and race.branches:
            ctx.group.parallel([partial(branch, ctx, n) for n in range(3)])
        elif kind == "races" and race.branches:
            ctx.group.race([partial(branch, ctx, n) for n in range(3)])
        elif kind == "nests" and race.branches:
            inner = partial(ctx.group.race, [partial(branch, ctx, n) for n in range(2)])
            ctx.group.race([inner, partial(branch, ctx, 2), inner])
        return ctx.step.run("last", look, ctx)

    return handler


def runtime_of(store: Store, worker: str, race: Race, number: int | None = None) -> Runtime:
    """An engine with all flows of the race. `number`: that of the limit of each, instead of the race's own."""
    witness, dice = Witness(Path(race.folder)), random.Random(worker)
    flows = {
        name: Flow(
            FlowDefinition(name, triggers=(OnEvent(f"shop/{name}"),), limits=Limits(concurrency=_limits(name, number))),
            handler_of(name, witness, dice, race),
            RetryPolicy(retries=20),
        )
        for name in race.flows
    }
    runtime = Runtime("shop", store, InlineDispatcher(), SchemaRegistry(), flows, clock=store.clock, worker=worker)
    register_worker(runtime)
    return runtime


def _limits(flow: str, number: int | None) -> tuple[Concurrency, ...]:
    return LIMITS[flow] if number is None else tuple(replace(one, limit=number) for one in LIMITS[flow])


def work(race: Race, worker: str) -> None:
    """One worker: send its share, then take whatever turn there is, until all runs have ended."""
    dice = random.Random(worker)
    store = Store(race.url)
    runtime = runtime_of(store, worker, race)
    race.declared(worker).touch()
    _break(race)

    def hesitate(sql: str) -> None:
        if ("flows_queue" in sql or "flows_slots" in sql or "COMMIT" in sql) and dice.random() < 0.3:
            time.sleep(dice.random() * 0.004)

    store.observer = hesitate
    until = time.monotonic() + race.seconds
    left = race.runs
    while time.monotonic() < until:
        if left:
            left -= _send(runtime, dice, race, left)
        runtime.dispatcher.waiting.clear()  # type: ignore[attr-defined]
        wake_due(runtime)
        wake_branches(runtime)
        units = _units(store)
        if not units and not left and _all_ended(store):
            break
        for run, path in dice.sample(units, min(3, len(units))):
            take_turn(runtime, run, branch=path)
        if race.cancels and dice.random() < 0.05:
            _cancel_one(runtime, store)
        if not units:
            time.sleep(0.005)
            if dice.random() < 0.02:
                # What a killed worker left at the door.
                let_in(runtime)
    store.dispose()


def _break(race: Race) -> None:
    if race.fault == "hands on blindly":
        Gates.share_unless_lowered = lambda *_: False  # type: ignore[method-assign]
    elif race.fault == "forgets losers":
        Standings.left_behind = lambda *_: []  # type: ignore[method-assign]


def _send(runtime: Runtime, dice: random.Random, race: Race, left: int) -> int:
    count = min(left, dice.choice((1, 1, 1, 4)))
    events = [
        Event(
            f"shop/{dice.choice(race.flows)}",
            {"user": dice.choice("ab"), "item": dice.choice("xy"), "kind": dice.choice(race.kinds)},
        )
        for _ in range(count)
    ]
    send(runtime, events)
    return count


def _units(store: Store) -> list[tuple[str, str]]:
    with store.connection() as connection:
        return [
            (row[0], row[1])
            for row in connection.execute(
                "SELECT id, '' FROM flows_runs WHERE status = 'queued' AND held_at IS NULL UNION ALL "
                "SELECT run_id, path FROM flows_branches WHERE status = 'queued' AND held_at IS NULL LIMIT 30"
            )
        ]


def _all_ended(store: Store) -> bool:
    with store.connection() as connection:
        return not connection.execute("SELECT 1 FROM flows_runs WHERE ended_at IS NULL LIMIT 1")


def _cancel_one(runtime: Runtime, store: Store) -> None:
    with store.connection() as connection:
        rows = connection.execute(
            "SELECT id FROM flows_runs WHERE ended_at IS NULL ORDER BY claim_tok IS NOT NULL, claim_tok DESC LIMIT 1"
        )
    for row in rows:
        cancel(runtime, row[0], "for a race")


def play(race: Race, store: Store, workers: int, *, kills: int = 0) -> None:
    """Let so many workers race to the end; so many of them are killed on the way, and others take their place."""
    dice = random.Random(7)
    crew: dict[str, Any] = {}
    for number in range(workers):
        crew[f"w{number}"] = _hire(race, f"w{number}")
    for number in range(kills):
        time.sleep(0.4 + dice.random() * 0.5)
        alive = sorted(name for name, one in crew.items() if one.is_alive())
        if not alive:
            break
        name = dice.choice(alive)
        os.kill(crew[name].pid, signal.SIGKILL)
        crew[name].join()
        _recover(race, store, name)
        crew[f"k{number}"] = _hire(Race(**{**race.__dict__, "runs": 0}), f"k{number}")
    for one in crew.values():
        one.join(race.seconds + 30)
        assert one.exitcode in (0, -signal.SIGKILL), f"a worker ended with {one.exitcode}"


def _hire(race: Race, name: str) -> Any:
    process = CONTEXT.Process(target=work, args=(race, name), daemon=True)
    process.start()
    return process


def _recover(race: Race, store: Store, worker: str) -> None:
    """What the leader does with a dead worker's units."""
    runtime = runtime_of(store, "leader", race)
    with store.connection() as connection:
        held = connection.runs.of_worker(worker) + connection.branches.of_worker(worker)
        held += connection.gate_audit.at_work(worker)
    for one in held:
        requeue(runtime, one)
