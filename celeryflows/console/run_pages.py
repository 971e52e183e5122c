"""One run as a page shows it: the steps without their values, and all there is about the one that is chosen."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from celeryflows.console.events import EventSummary, summary_of
from celeryflows.console.pages import decoded, moment
from celeryflows.console.runs import RunSummary, StepSummary, run_summary, step_summary, steps_left, under_groups
from celeryflows.durations import to_datetime
from celeryflows.engine.failures import read_failure
from celeryflows.engine.runtime import Runtime
from celeryflows.errors import UnknownRun
from celeryflows.model.steps import Failure, Kind, State
from celeryflows.store.database import Store
from celeryflows.store.reports.events import one_event
from celeryflows.store.reports.runs import STEP_LINE, StepView, one_run, run_steps, step_places
from celeryflows.store.reports.steps import (
    AwaitedView,
    attempt_errors,
    awaited,
    run_attempts,
    run_children,
    step_values,
)
from celeryflows.store.reports.steps import ChildView as ChildView


@dataclass(frozen=True, slots=True)
class Attempt:
    """A failed attempt after which another came. `error` only where its step is chosen."""

    number: int
    ended_at: datetime
    took: timedelta | None
    error: Failure | None = None


# More rows than that are no picture, and a browser takes long to draw them.
STEPS_AT_ONCE = 250


@dataclass(frozen=True, slots=True)
class RunPage:
    """One run: its event, its steps without values, the failed attempts by step ('' for its body), the runs that its
    steps invoked; `now` is the store's clock when it was read. `steps` are those from the one numbered `first` on, of
    `count` that it has; `steps_left` as `steps_left` tells it."""

    run: RunSummary
    event: EventSummary | None
    steps: tuple[StepSummary, ...]
    attempts: dict[str, tuple[Attempt, ...]]
    children: tuple[ChildView, ...]
    now: datetime
    first: int = 0
    count: int = 0
    steps_left: int | None = None


@dataclass(frozen=True, slots=True)
class StepPage:
    """All there is about one step. `input`: what a rerun gave it in place of its arguments; `called_with`: what it was
    called with, where its flow records that; `awaited`: what it waits for; `event`: what answered it; `given`: the
    event with which it invoked another run."""

    value: Any
    error: Failure | None
    input: Any
    attempts: tuple[Attempt, ...]
    awaited: AwaitedView | None
    event: EventSummary | None
    given: EventSummary | None
    called_with: Any = None


def run_page(runtime: Runtime, run_id: str, *, first: int | None = None, step: str = "") -> RunPage:
    """One run as it stands now. Raises UnknownRun.

    Of many steps those from about `first` on; without it those around `step`, else where something is to be seen:
    around the one that failed, the last ones of a run that goes on, the first ones.
    """
    store = runtime.store
    found = one_run(store, run_id)
    if found is None:
        raise UnknownRun(f"No run {run_id!r} in the store {store.shown_url()}.")
    with store.connection() as connection:
        now = connection.now()
    event = one_event(store, found.event_id)
    summary = run_summary(found)
    rows, first, count = _shown(store, summary, first, step)
    tried: dict[str, tuple[Attempt, ...]] = {}
    for row in run_attempts(store, run_id, ["", *(row.id for row in rows)]):
        tried[row.key] = (*tried.get(row.key, ()), Attempt(row.attempt, to_datetime(row.ended_at), _length(row.took)))
    return RunPage(
        run=summary,
        event=summary_of(event) if event else None,
        steps=tuple(step_summary(row, found.ended_at, now) for row in rows),
        attempts=tried,
        children=tuple(
            run_children(store, [row.wait_name for row in rows if row.kind == Kind.INVOKE and row.wait_name])
        ),
        now=to_datetime(now),
        first=first,
        count=count,
        steps_left=steps_left(runtime, found, count),
    )


def _shown(store: Store, run: RunSummary, first: int | None, step: str) -> tuple[list[StepView], int, int]:
    """The steps of one picture, the number of the first of them, and how many there are."""
    rows = run_steps(store, run.id, STEP_LINE, limit=STEPS_AT_ONCE + 1)
    if len(rows) <= STEPS_AT_ONCE:
        return under_groups(rows), 0, len(rows)
    order = [place.id for place in under_groups(step_places(store, run.id))]
    last = len(order) - 1
    if first is None:
        failed = run.error.step_id if run.error is not None else None
        found = next((order.index(key) for key in (step, failed) if key and key in order), None)
        first = found if found is not None else last if run.ended_at is None else 0
    first = min(max(first, 0), last) // STEPS_AT_ONCE * STEPS_AT_ONCE
    keys = {key: at for at, key in enumerate(order[first : first + STEPS_AT_ONCE])}
    rows = run_steps(store, run.id, STEP_LINE, keys=list(keys))
    return sorted(rows, key=lambda row: keys[row.id]), first, len(order)


def step_page(runtime: Runtime, page: RunPage, key: str) -> StepPage | None:
    """What a step of the run holds; None when it has no such step."""
    store, run_id = runtime.store, page.run.id
    step = next((step for step in page.steps if step.id == key), None)
    values = step_values(store, run_id, key) if step is not None else None
    if step is None or values is None:
        return None
    value, is_error = values.value, values.state in (State.FAILED, State.RETRYING)
    answer = one_event(store, step.event_id) if step.event_id else None
    return StepPage(
        value=None if is_error else decoded(value),
        error=read_failure(value) if is_error and value else None,
        input=None if values.input is None else decoded(values.input),
        attempts=with_errors(runtime, page, key),
        awaited=awaited(store, run_id, key),
        event=summary_of(answer) if answer else None,
        given=_given(runtime, step.child),
        called_with=None if values.given is None else decoded(values.given),
    )


def _given(runtime: Runtime, child: str | None) -> EventSummary | None:
    found = one_run(runtime.store, child) if child is not None else None
    event = one_event(runtime.store, found.event_id) if found is not None else None
    return summary_of(event) if event is not None else None


def with_errors(runtime: Runtime, page: RunPage, key: str) -> tuple[Attempt, ...]:
    """The failed attempts of a step, or of the body (''), each with its error."""
    tried = page.attempts.get(key, ())
    if not tried:
        return ()
    errors = attempt_errors(runtime.store, page.run.id, key)
    found = ((one, errors.get(one.number)) for one in tried)
    return tuple(
        Attempt(one.number, one.ended_at, one.took, read_failure(text) if text else None) for one, text in found
    )


def _length(us: int | None) -> timedelta | None:
    return None if us is None else timedelta(microseconds=us)


def child_moments(child: ChildView) -> tuple[datetime, datetime | None, datetime | None]:
    """When an invoked run was made, started and ended."""
    return to_datetime(child.created_at), moment(child.started_at), moment(child.ended_at)
