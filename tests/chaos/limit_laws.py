"""Limits seen from outside: who was inside at once by the witness's order, how many started by its clock."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise

from tests.celery.apps.mixed import ALLOWED, BATCH, BURST, OF_USER, RANKED, RATE, WIDE
from tests.chaos.findings import DOUBLED, EXCEEDED, LOST, Findings
from tests.chaos.kinds import SKIPPED, Load
from tests.chaos.laws import RunSeen, Sight
from tests.chaos.ledger import BEGAN, ENDED, RAISED, Line


def places_of(run: RunSeen) -> Iterator[tuple[str, int]]:
    """Where a run is inside while one of its bodies is at work, and how many may be."""
    if run.kind == "keyed":
        yield "keyed", WIDE
        yield f"keyed {run.data['user']}", OF_USER
    elif run.kind == "ranked":
        yield "ranked", RANKED


def nobody_was_too_many(sight: Sight, lines: Iterable[Line], findings: Findings) -> None:
    """Concurrency. A run whose worker died is inside until it was done again, for it keeps its slot; what a zombie does
    after another turn of its run has begun does not count."""
    inside: dict[str, dict[str, int]] = defaultdict(dict)
    newest: dict[str, int] = {}
    for line in lines:
        run = sight.runs.get(line.run)
        if run is None or line.turn < newest.get(line.run, 0):
            continue
        newest[line.run] = line.turn
        for place, limit in places_of(run):
            if line.what == BEGAN:
                inside[place][line.run] = line.turn
                if len(inside[place]) > limit:
                    findings.add(EXCEEDED, [f"{len(inside[place])} inside of {place}, at most {limit}"])
            elif line.what in (ENDED, RAISED):
                inside[place].pop(line.run, None)


def singletons_were_alone(sight: Sight, findings: Findings) -> None:
    """From its first body's begin to its last body's end no other of its key was."""
    spans: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for run in sight.of("single"):
        told = [line for key in ("first", "last") for line in sight.told.get((run.id, key), ())]
        if run.status == "completed" and told:
            last = sight.steps[run.id, "last"].turn
            ends = [line.at for line in told if line.what == ENDED and line.key == "last" and line.turn == last]
            spans[run.data["user"]].append((min(line.at for line in told), ends[0]))
    for user, found in spans.items():
        ordered = sorted(found)
        for (_, end), (begin, _) in pairwise(ordered):
            if begin < end:
                findings.add(EXCEEDED, [f"two singletons of {user} at once: {begin} before {end}"])


def not_too_fast(sight: Sight, load: Load, since: float, findings: Findings) -> None:
    """By no moment more have started than the rate allows from the first event on."""
    prefix = f"{load.prefix}."
    starts: dict[str, list[float]] = defaultdict(list)
    for kind in ("throttled", "rated"):
        for run in sight.of(kind):
            told = sight.told.get((run.id, "only"))
            if told and run.data["id"].startswith(prefix):
                starts[kind if kind == "throttled" else f"rated {run.data['user']}"].append(told[0].at)
    for name, found in starts.items():
        at_once, a_second = (BURST, RATE) if name == "throttled" else (ALLOWED, ALLOWED)
        for number, at in enumerate(sorted(found), start=1):
            if number > at_once + (at - since) * a_second:
                findings.add(EXCEEDED, [f"{number} of {name} within {at - since:.3f} s"])


def values_are_once(sight: Sight, load: Load, findings: Findings) -> None:
    """Idempotency: one run a value. Debounce: the newest event of each value is in a run."""
    once: dict[str, list[str]] = defaultdict(list)
    for run in sight.of("once"):
        if run.status != SKIPPED:
            once[run.data["value"]].append(run.id)
    for value in {str(item.data["value"]) for item in load.of("once")}:
        if len(once[value]) != 1:
            findings.add(DOUBLED if once[value] else LOST, [f"{len(once[value])} runs of the idempotent {value}"])
    newest = {str(item.data["value"]): item.id for item in load.of("bounced")}
    seen = {run.data["id"] for run in sight.of("bounced") if run.status != SKIPPED}
    findings.add(LOST, [f"the debounced {id} is in no run" for id in newest.values() if id not in seen])


def each_is_in_one_batch(sight: Sight, load: Load, findings: Findings) -> None:
    """And no batch is too large."""
    into: dict[str, set[str]] = defaultdict(set)
    for run in sight.of("batched"):
        for line in sight.told.get((run.id, "only"), ()):
            if line.what != BEGAN:
                continue
            for id in line.given[0]:
                into[id].add(run.id)
            findings.add(EXCEEDED, [f"a batch of {len(line.given[0])}"] if len(line.given[0]) > BATCH else [])
    for item in load.of("batched"):
        if len(into[item.id]) != 1:
            findings.add(DOUBLED if into[item.id] else LOST, [f"{item.id} is in {len(into[item.id])} batches"])


def check_limits(sight: Sight, load: Load, lines: list[Line], since: float, findings: Findings) -> None:
    """All of it."""
    nobody_was_too_many(sight, lines, findings)
    singletons_were_alone(sight, findings)
    not_too_fast(sight, load, since, findings)
    values_are_once(sight, load, findings)
    each_is_in_one_batch(sight, load, findings)
