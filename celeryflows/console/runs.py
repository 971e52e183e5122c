"""Runs on the desk: lists, and one run with its steps as a timeline needs them."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from celeryflows.console.events import EventSummary, summary_of
from celeryflows.console.pages import Page, decoded, moment
from celeryflows.console.searching import EVERYTHING, Wanted, find_runs
from celeryflows.durations import to_datetime
from celeryflows.engine.failures import read_failure
from celeryflows.engine.runtime import Runtime
from celeryflows.engine.slots import warns_at
from celeryflows.errors import UnknownRun
from celeryflows.model.branches import GROUPS, group_of, index_of
from celeryflows.model.runs import Status
from celeryflows.model.steps import Failure, Kind, State
from celeryflows.store.reports.events import one_event
from celeryflows.store.reports.runs import RunView, StepView, one_run, run_steps


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run for a list. `error` of a run that is open is its body's last one.

    `parent` invoked it in its step `parent_key`; it goes on for `continued_from`, and `continued_as` for it; it is a
    rerun of `origin`.
    """

    id: str
    flow: str
    status: Status
    version: str | None
    event_id: str
    turn: int
    attempt: int
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    wake_at: datetime | None
    reason: str | None
    output: Any
    error: Failure | None
    parent: str | None = None
    parent_key: str | None = None
    continued_from: str | None = None
    continued_as: str | None = None
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class StepSummary:
    """A step on the time axis.

    `standing`: done, failed, retrying, late (it ended after its run was cancelled), sleeping, slept, waiting, answered,
    timed out, replaced (another run took its place), closed (its run or branch ended first), edited (it has not
    begun). `awaits` is the name of an event or signal, or the id of a task or of the invoked run, which
    `child` is too. `until` is None while it goes on. `recorded_at` is when it was written last, and `took` how long the
    attempt ran that was written then. `kept`: a rerun has it from the run that it repeats. `branch`: the path of its
    branch, or ''.
    """

    id: str
    kind: str
    standing: str
    attempts: int
    began: datetime
    until: datetime | None
    recorded_at: datetime | None
    took: timedelta | None
    due_at: datetime | None
    value: Any
    error: Failure | None
    awaits: str | None
    event_id: str | None
    problem: str | None
    child: str | None = None
    kept: bool = False
    branch: str = ""


@dataclass(frozen=True, slots=True)
class RunDetail:
    """One run with its event and steps; `now` is the store's clock when it was read. `steps_left`: how many more it may
    have, told when it is under way and most of them are spent."""

    run: RunSummary
    event: EventSummary | None
    steps: tuple[StepSummary, ...]
    now: datetime
    steps_left: int | None = None


def runs(
    runtime: Runtime, wanted: Wanted = EVERYTHING, *, limit: int = 50, cursor: str | None = None
) -> Page[RunSummary]:
    """Runs by id, the newest first; `cursor` is the `next` of the page before. With a condition (`wanted_runs`) a page
    may have fewer than `limit`, and a next one all the same."""
    rows, following = find_runs(runtime, wanted, limit=limit, cursor=cursor)
    return Page(tuple(run_summary(row) for row in rows), following)


def run(runtime: Runtime, run_id: str) -> RunDetail:
    """One run as it stands now. Raises UnknownRun."""
    store = runtime.store
    found = one_run(store, run_id)
    if found is None:
        raise UnknownRun(f"No run {run_id!r} in the store {store.shown_url()}.")
    with store.connection() as connection:
        now = connection.now()
    event = one_event(store, found.event_id)
    steps = tuple(step_summary(step, found.ended_at, now) for step in under_groups(run_steps(store, run_id)))
    left = steps_left(runtime, found, len(steps))
    return RunDetail(run_summary(found), summary_of(event) if event else None, steps, to_datetime(now), left)


def steps_left(runtime: Runtime, run: RunView, count: int) -> int | None:
    """How many steps more a run of so many may have; None unless it is under way and near its bound."""
    most = runtime.settings.max_steps
    return max(0, most - count) if run.ended_at is None and count >= warns_at(most) else None


def run_summary(row: RunView) -> RunSummary:
    """A stored run as it is shown."""
    return RunSummary(
        id=row.id,
        flow=row.flow,
        status=Status(row.status),
        version=row.version,
        event_id=row.event_id,
        turn=row.turn,
        attempt=row.attempt,
        created_at=to_datetime(row.created_at),
        started_at=moment(row.started_at),
        ended_at=moment(row.ended_at),
        wake_at=moment(row.wake_at),
        reason=row.reason,
        output=decoded(row.output) if row.status == Status.COMPLETED else None,
        error=read_failure(row.error) if row.error else None,
        parent=row.parent,
        parent_key=row.parent_key,
        continued_from=row.continued_from,
        continued_as=row.continued_as,
        origin=row.origin,
    )


def step_summary(step: StepView, run_ended_at: int | None, now: int) -> StepSummary:
    """A stored step as it is shown; an open one is cut at the end of its run, or of its branch."""
    if step.branch_ended_at is not None:
        run_ended_at = step.branch_ended_at
    is_error = step.state in (State.FAILED, State.RETRYING)
    return StepSummary(
        id=step.id,
        kind=step.kind,
        standing=_standing(step, run_ended_at, now),
        attempts=step.attempts,
        began=to_datetime(step.began),
        until=moment(_until(step, run_ended_at, now)),
        recorded_at=moment(step.ended_at),
        took=None if step.took is None else timedelta(microseconds=step.took),
        due_at=moment(step.due_at),
        value=None if is_error else decoded(step.value),
        error=read_failure(step.value) if is_error and step.value else None,
        awaits=step.wait_name,
        event_id=step.event_id,
        problem=step.problem,
        child=step.wait_name if step.kind == Kind.INVOKE else None,
        kept=step.turn == 0 and step.state != State.EDITED,
        branch=step.branch,
    )


class Placed(Protocol):
    """A step with its place among the others."""

    @property
    def id(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def branch(self) -> str: ...


P = TypeVar("P", bound=Placed)


def under_groups(steps: Sequence[P]) -> list[P]:
    """The steps with those of each group's branches right below it, branch by branch; else in their order."""
    below: dict[str, list[P]] = defaultdict(list)
    for step in steps:
        below[group_of(step.branch) if step.branch else ""].append(step)

    def walk(group: str) -> Iterator[P]:
        # Sorted by branch alone: inside one they keep their order.
        for step in sorted(below.pop(group, ()), key=lambda one: index_of(one.branch) if one.branch else 0):
            yield step
            if step.kind in GROUPS:
                yield from walk(step.id)

    found = list(walk(""))
    # What a rerun kept may stand without its group's row.
    return found + [step for left in below.values() for step in left]


_WAITS = {"answered": "answered", "expired": "timed out", "replaced": "replaced", "closed": "closed"}
WAITING = (Kind.WAIT, Kind.INVOKE, Kind.SIGNAL, Kind.TASK)


def _standing(step: StepView, run_ended_at: int | None, now: int) -> str:
    if step.kind == Kind.SLEEP:
        end = now if run_ended_at is None else run_ended_at
        return "slept" if step.due_at is not None and step.due_at <= end else _open("sleeping", run_ended_at)
    if step.kind in GROUPS:
        return "done" if step.joined_at is not None else _open("waiting", run_ended_at)
    if step.kind in WAITING and step.state == State.WAITING:
        return _open("waiting", run_ended_at) if step.wait == "open" else _WAITS.get(step.wait or "", step.state)
    return _open(step.state, run_ended_at) if step.state == State.RETRYING else step.state


def _open(word: str, run_ended_at: int | None) -> str:
    return word if run_ended_at is None else "closed"


def _until(step: StepView, run_ended_at: int | None, now: int) -> int | None:
    """When it ended, None while it goes on."""
    if step.kind == Kind.WAIT and step.wait == "answered":
        return max(step.began, step.answered_at or step.began)
    if step.kind in GROUPS:
        return step.joined_at if step.joined_at is not None else run_ended_at
    if step.state in (State.WAITING, State.RETRYING):
        ends = [at for at in (step.due_at, run_ended_at) if at is not None and at <= now]
        return run_ended_at if step.state == State.RETRYING else min(ends, default=None)
    return step.ended_at
