"""Rounds of chaos: a load of every kind, faults under it, and then the laws.

A plan is made from the seed before anything starts: the same seed strikes the same way."""

import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import wait
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from random import Random

from celeryflows.errors import FlowsError
from tests.chaos.arena import Arena, arena, explained
from tests.chaos.faults import Fault, known
from tests.chaos.faults.shape import NotHere
from tests.chaos.findings import CHANGED, STUCK, Findings, Round, table
from tests.chaos.kinds import KINDS, Load
from tests.chaos.laws import at_rest, check, under_way
from tests.chaos.ledger import Line
from tests.chaos.limit_laws import check_limits
from tests.chaos.sending import PATIENCE, Answerer, Background, Sender, Watcher, send
from tests.servers import ServerMissing
from tests.waiting import eventually

NONE, MIXED = UNNAMED = "none", "mixed"
# A round that is not at rest is stuck when nothing more has ended for so long, or when it takes longer than this.
BOUND, LONGEST = 90.0, 400.0
# Seconds between two portions of the load.
PACE = 0.6


@dataclass(frozen=True, slots=True)
class Forecast:
    """How much there is to come: rounds of each fault, portions of the load in a round, and how many faults a mixed
    round has."""

    seed: int
    rounds: int = 1
    portions: int = 6
    at_once: int = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """A round: its faults by room, each room's one after the other, and how many items of each kind there are."""

    name: str
    seed: int
    rooms: tuple[tuple[Fault, ...], ...]
    portions: int


def plan_of(name: str, store: str, seed: int, forecast: Forecast) -> Plan:
    """A round of one fault, of none, or of several that the seed picks."""
    dice = Random(f"{seed} {store} {name}")
    possible = [fault for fault in known.values() if store in fault.stores]
    if name == NONE:
        return Plan(name, seed, (), forecast.portions)
    if name != MIXED:
        return Plan(name, seed, ((known[name],),), forecast.portions)
    rooms: dict[str, list[Fault]] = {}
    for fault in dice.sample(possible, forecast.at_once):
        rooms.setdefault(fault.room, []).append(fault)
    return Plan(name, seed, tuple(tuple(faults) for faults in rooms.values()), forecast.portions)


def strike(made: Arena, load: Load, plan: Plan) -> None:
    """The plan's faults, room beside room; comes back when all harm is undone. A fault that cannot be had is left out
    of several; alone it raises NotHere."""

    def strike_room(number: int, faults: Sequence[Fault]) -> None:
        dice = Random(f"{plan.seed} {plan.name} {number}")
        for fault in faults:
            time.sleep(dice.uniform(0.0, 0.5))
            with suppress(NotHere) if plan.name == MIXED else nullcontext():
                fault.strike(made, load, dice)

    struck = [made.threads.submit(strike_room, number, faults) for number, faults in enumerate(plan.rooms)]
    wait(struck)
    for one in struck:
        one.result()


def play(made: Arena, plan: Plan, lines: list[Line], prefix: str) -> Round:
    """One round. `lines` are all that the witness was told in this arena, and grow."""
    load, findings = Load(prefix), Findings()
    ended, since = len(made.fleet.ended), made.ledger.now()
    watcher = Watcher(made)
    with Background(Answerer(made), 0.3), Background(watcher, 1.0):
        sender = Sender(made, load, plan.portions)
        with Background(sender, PACE) as sending:
            strike(made, load, plan)
            healed, sender.struck = time.monotonic(), True
            eventually(lambda: sending.check() or sender.is_done, within=PATIENCE, every=0.05)
        send(made, load, load.next(KINDS))
        rested = _rest(made)
        recovered = time.monotonic() - healed
        for after in made.afterwards:
            after()
        if made.afterwards:
            made.afterwards.clear()
            time.sleep(1.0)
            _rest(made)
    if not rested:
        findings.add(STUCK, [f"not at rest: {explained(made)}"])
    lines += made.ledger.news()
    sight, zombies = check(made, load, lines, since, findings)
    check_limits(sight, load, lines, since, findings)
    watcher()
    findings.add(CHANGED, watcher.changed)
    runs = sum(1 for run in sight.runs.values() if str(run.data.get("id", "")).startswith(f"{prefix}."))
    return Round(
        made.place.kind, plan.name, plan.seed, runs, recovered, zombies, tuple(made.fleet.ended[ended:]), findings
    )


def _rest(made: Arena) -> bool:
    """Wait until nothing goes on any more; workers that have ended are followed by others."""
    began = progressed = time.monotonic()
    least: int | None = None
    while time.monotonic() < min(progressed + BOUND, began + LONGEST):
        made.fleet.mend()
        try:
            if at_rest(made):
                return True
            left = under_way(made)
            if least is None or left < least:
                least, progressed = left, time.monotonic()
        except FlowsError:
            # A store that is not up yet.
            pass
        time.sleep(0.2)
    return False


def storm(stores: Iterable[str], names: Sequence[str], forecast: Forecast, tell: Callable[[str], None]) -> list[Round]:
    """So many rounds of each named fault on each store. A store whose server is not installed is left out."""
    played: list[Round] = []
    for store in stores:
        left = [
            name for _ in range(forecast.rounds) for name in names if name in UNNAMED or store in known[name].stores
        ]
        try:
            while left:
                _play_in_one_arena(store, left, forecast, played, tell)
        except ServerMissing as missing:
            tell(f"{store} is left out: {missing}")
    tell(table(played))
    return played


def _play_in_one_arena(
    store: str, left: list[str], forecast: Forecast, played: list[Round], tell: Callable[[str], None]
) -> None:
    """Rounds until all are played, or a promise is broken: then the arena is not used again."""
    with arena(store) as made:
        lines: list[Line] = []
        while left:
            plan = plan_of(left.pop(0), store, forecast.seed + len(played), forecast)
            try:
                one = play(made, plan, lines, f"r{len(played)}")
            except NotHere as why:
                tell(f"{store}: {plan.name} is not to be had: {why}")
                continue
            except Exception:
                findings = Findings()
                findings.add(STUCK, [traceback.format_exc()])
                one = Round(store, plan.name, plan.seed, 0, 0.0, 0, (), findings)
            played.append(one)
            _tell(one, plan, tell)
            if one.findings.all:
                return


def _tell(one: Round, plan: Plan, tell: Callable[[str], None]) -> None:
    faults = ", ".join(fault.name for room in plan.rooms for fault in room) or NONE
    tell(
        f"{one.store}: {faults}: seed {one.seed}, {one.runs} runs, recovered in {one.recovered:.1f} s, "
        f"{one.zombies} bodies of zombies, {len(one.ended)} workers ended by themselves, "
        f"{len(one.findings.all)} findings"
    )
    for words in [*one.findings.all, *sorted(set(one.ended))]:
        tell(f"  {words}")


def say(words: str) -> None:
    """To who watches."""
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()
