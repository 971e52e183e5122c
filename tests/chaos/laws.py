"""What must hold after each round, told by the store's rows and by the outside witness."""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from celeryflows.codec import loads
from tests.chaos.arena import Arena
from tests.chaos.findings import CHANGED, DOUBLED, LEAKED, LOST, STUCK, Findings
from tests.chaos.kinds import ALL, BESIDE, SKIPPED, Load
from tests.chaos.ledger import BEGAN, ENDED, RECORDED, Line

RUNS = """
SELECT r.id, r.flow, r.status, r.output, e.ext_id, e.data, r.continued_from, r.reason, r.created_at, r.error
FROM flows_runs r JOIN flows_events e ON e.id = r.event_id
"""
STEPS = "SELECT run_id, key, kind, state, value, turn FROM flows_steps"
OPEN = "SELECT id, flow, status FROM flows_runs WHERE ended_at IS NULL"
LEFTOVERS = {
    "a slot is held": "SELECT gate, no, run_id FROM flows_slots WHERE run_id IS NOT NULL",
    "a line has somebody in it": "SELECT gate, run_id FROM flows_queue",
    "a debounce is open": "SELECT key FROM flows_debounces",
    "a batch is open": "SELECT key FROM flows_batches",
    "a wait is open": "SELECT run_id, key FROM flows_waits WHERE state = 'open'",
    "a branch is open": "SELECT run_id, path, status FROM flows_branches WHERE ended_at IS NULL",
    "a task is looked after": "SELECT id FROM flows_tasks WHERE next_at IS NOT NULL",
    "an event is not routed": "SELECT id, name FROM flows_events WHERE arrived_at IS NULL OR piece IS NOT NULL",
    "a run owes something": "SELECT id, owes FROM flows_runs WHERE owes IS NOT NULL",
}


@dataclass(frozen=True, slots=True)
class RunSeen:
    """A run as the store has it."""

    id: str
    flow: str
    status: str
    output: Any
    ext_id: str | None
    data: dict[str, Any]
    continued_from: str | None
    reason: str | None
    created_at: int
    error: str | None

    @property
    def kind(self) -> str:
        """Without the sheet's name."""
        return self.flow.removeprefix("mixed.")


@dataclass(frozen=True, slots=True)
class StepSeen:
    """A step as the store has it."""

    run: str
    key: str
    kind: str
    state: str
    value: Any
    turn: int


@dataclass(slots=True)
class Sight:
    """All that is to be seen at the end of a round: the store's rows, and every line told so far."""

    runs: dict[str, RunSeen]
    steps: dict[tuple[str, str], StepSeen]
    told: dict[tuple[str, str], list[Line]] = field(default_factory=lambda: defaultdict(list))

    def of(self, kind: str) -> list[RunSeen]:
        """The runs of a kind."""
        return [run for run in self.runs.values() if run.kind == kind]


def see(arena: Arena, lines: list[Line]) -> Sight:
    """Look."""
    runs = {}
    for id, flow, status, output, ext_id, data, before, reason, made, error in arena.rows(RUNS):
        value = loads(output) if output is not None else None
        runs[id] = RunSeen(id, flow, status, value, ext_id, json.loads(data), before, reason, made, error)
    steps = {}
    for run, key, kind, state, value, turn in arena.rows(STEPS):
        read = loads(value) if value is not None and state == "done" else value
        steps[run, key] = StepSeen(run, key, kind, state, read, turn)
    sight = Sight(runs, steps)
    for line in lines:
        sight.told[line.run, line.key].append(line)
    return sight


def at_rest(arena: Arena) -> bool:
    """Nothing goes on any more; a tick of the clock may begin at any time."""
    return not arena.rows(f"{OPEN} AND flow <> 'mixed.ticks'") and not any(
        arena.rows(sql) for sql in LEFTOVERS.values()
    )


def under_way(arena: Arena) -> int:
    """How many runs have not ended."""
    return len(arena.rows(OPEN))


def nothing_is_left(arena: Arena, findings: Findings) -> None:
    """All has ended, and nothing is held."""
    findings.add(STUCK, [f"{run}" for run in arena.rows(f"{OPEN} AND flow <> 'mixed.ticks'")])
    for words, sql in LEFTOVERS.items():
        column = LEAKED if "slot" in words or "line" in words else STUCK
        findings.add(column, [f"{words}: {row}" for row in arena.rows(sql)])


def every_item_has_its_run(sight: Sight, load: Load, findings: Findings) -> None:
    """Each accepted item has one run, which ended as it should; some kinds spare some of their items one."""
    by_item: dict[str, list[RunSeen]] = defaultdict(list)
    for run in sight.runs.values():
        if run.kind in ALL and run.continued_from is None and "id" in run.data:
            by_item[run.data["id"]].append(run)
    for item in load.accepted:
        kind = ALL[item.kind]
        runs = by_item[item.id]
        worked = [run for run in runs if run.status != SKIPPED]
        if len(worked) > 1:
            findings.add(DOUBLED, [f"{item.id} has the runs {[run.id for run in worked]}"])
        if not worked and not (kind.spared and (runs or kind.spared in ("value", "batch"))):
            findings.add(LOST, [f"{item.id} has no run: {runs}"])
        wrong = [run for run in worked if run.status not in kind.ends]
        findings.add(
            LOST, [f"{item.id} ended as {run.status} ({run.reason}): {run.output or run.error}" for run in wrong]
        )


def every_start_is_one(sight: Sight, findings: Findings) -> None:
    """What runs start themselves is started once by each."""
    ended: Counter[str] = Counter(run.kind for run in sight.runs.values() if run.status != SKIPPED)
    for kind in ALL.values():
        for made in kind.makes:
            wanted = ended[kind.name] // 2 if made == kind.name else ended[kind.name]
            found = ended[made] - wanted if made == kind.name else ended[made]
            if found != wanted:
                column = LOST if found < wanted else DOUBLED
                findings.add(column, [f"{wanted} runs of {kind.name} started {found} of {made}"])
    for kind in BESIDE:
        seen = sorted(sight.of(kind), key=lambda run: run.id)
        # The newest tick may have begun just now.
        settled = seen[:-1] if kind == "ticks" and seen and seen[-1].status in ("queued", "running") else seen
        wrong = [run for run in settled if run.status != "completed"]
        findings.add(LOST, [f"{run.flow} {run.id} ended as {run.status}: {run.reason or run.error}" for run in wrong])
    ticks = Counter(str(run.data.get("scheduled_at")) for run in sight.of("ticks"))
    findings.add(DOUBLED, [f"the minute {minute} fired {n} times" for minute, n in ticks.items() if n > 1])


def values_are_of_their_steps(sight: Sight, findings: Findings) -> None:
    """A run's value is made of what was recorded, and every body was given what was recorded."""
    recorded: dict[str, set[Any]] = defaultdict(set)
    for step in sight.steps.values():
        if step.state == "done" and isinstance(step.value, str):
            recorded[step.run].add(step.value)
    for run in sight.runs.values():
        if run.status == "completed" and isinstance(run.output, list):
            odd = {value for value in run.output if _names_execution(value)} - recorded[run.id]
            findings.add(CHANGED, [f"{run.flow} {run.id} gave {odd}, which no step of it recorded"] if odd else [])
    for (run, key), lines in sight.told.items():
        given = {value for line in lines if line.what == BEGAN for value in line.given if _names_execution(value)}
        odd = given - recorded[run]
        findings.add(CHANGED, [f"{key!r} of {run} was given {odd}, which was not recorded"] if odd else [])


def _names_execution(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 32 and value.isalnum()


def answers_are_right(sight: Sight, findings: Findings) -> None:
    """Waits got what was sent for them, and what nobody answered got nothing."""
    for run in sight.runs.values():
        if run.status != "completed":
            continue
        id = run.data.get("id")
        wanted = {"answered": [f"word {id}"], "provokes": [id], "unanswered": [None], "signalled": ["woken"]}
        got = run.output[2:] if run.kind == "answered" else run.output[:1] if run.kind in wanted else None
        if run.kind in wanted and got != wanted[run.kind]:
            findings.add(LOST, [f"{run.flow} {run.id} was answered with {got}, not {wanted[run.kind]}"])


def nothing_ran_after_its_record(sight: Sight, since: float, findings: Findings) -> int:
    """A recorded value is that of an execution of the turn that recorded it, and no later turn began the step again.
    Returns how many bodies zombies began or ended after that in this round: nothing can hinder that, and it comes to
    nothing."""
    zombies = 0
    for place, lines in sight.told.items():
        step = sight.steps.get(place)
        if step is None or step.state not in ("done", "failed") or step.kind not in ("run", "transaction"):
            continue
        findings.add(DOUBLED, _began_again(step, lines))
        at = next((no for no, line in enumerate(lines) if line.what == RECORDED and line.turn == step.turn), len(lines))
        zombies += sum(
            1 for line in lines[at:] if line.what in (BEGAN, ENDED) and line.turn < step.turn and line.at > since
        )
        if step.state == "done" and isinstance(step.value, str) and len(step.value) < 1000:
            ends = [(line.turn, line.said) for line in lines if line.what == ENDED]
            if (step.turn, step.value) not in ends:
                findings.add(CHANGED, [f"{place} holds {step.value} of turn {step.turn}; the witness saw {ends}"])
    return zombies


def _began_again(step: StepSeen, lines: list[Line]) -> list[str]:
    found = [
        f"{step.key!r} of {step.run} began in turn {line.turn}, after turn {step.turn} had recorded it"
        for line in lines
        if line.what == BEGAN and line.turn > step.turn
    ]
    mine = [line for line in lines if line.turn == step.turn]
    end = next((no for no, line in enumerate(mine) if line.what == ENDED), len(mine))
    return found + [
        f"{step.key!r} of {step.run} began twice in turn {step.turn}" for line in mine[end:] if line.what == BEGAN
    ]


def transactions_are_once(arena: Arena, sight: Sight, findings: Findings) -> None:
    """Exactly one line in the table for each run that completed, none for others."""
    lines = Counter(row[0] for row in arena.rows("SELECT run FROM chaos_lines"))
    for run in sight.of("books"):
        n = lines.pop(run.id, 0)
        if n != 1:
            findings.add(DOUBLED if n > 1 else LOST, [f"{run.id} has {n} lines of step.transaction"])
    findings.add(DOUBLED, [f"step.transaction wrote for {run}, which is no run" for run in lines])


def check(arena: Arena, load: Load, lines: list[Line], since: float, findings: Findings) -> tuple[Sight, int]:
    """All of it; what was seen, and how many bodies were zombies'."""
    sight = see(arena, lines)
    nothing_is_left(arena, findings)
    every_item_has_its_run(sight, load, findings)
    every_start_is_one(sight, findings)
    values_are_of_their_steps(sight, findings)
    answers_are_right(sight, findings)
    transactions_are_once(arena, sight, findings)
    return sight, nothing_ran_after_its_record(sight, since, findings)
