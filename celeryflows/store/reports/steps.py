"""What a run's page shows of its steps beside the time axis. Plain Core, each a short read."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import select

from celeryflows.store.database import Store
from celeryflows.store.figure_tables import attempts
from celeryflows.store.reports.reading import one, read
from celeryflows.store.schema import runs, steps, waits


@dataclass(frozen=True, slots=True)
class AttemptView:
    """A failed attempt of a step after which another came; the body's has the key ''. Times in microseconds."""

    key: str
    attempt: int
    ended_at: int
    took: int | None


@dataclass(frozen=True, slots=True)
class AwaitedView:
    """What a step waits for: an event by a value at a path or by a condition, a signal, or another run."""

    key: str
    kind: str
    name: str
    path: str
    value: str | None
    if_exp: str | None
    state: str
    due_at: int | None


@dataclass(frozen=True, slots=True)
class ChildView:
    """A run that a step invoked."""

    key: str
    run_id: str
    flow: str
    status: str
    created_at: int
    started_at: int | None
    ended_at: int | None


def run_attempts(store: Store, run_id: str, keys: Collection[str]) -> list[AttemptView]:
    """The failed attempts of some steps of a run, without their errors."""
    columns = (attempts.c.key, attempts.c.attempt, attempts.c.ended_at, attempts.c.took)
    query = select(*columns).where(attempts.c.run_id == run_id, attempts.c.key.in_(keys))
    query = query.order_by(attempts.c.key, attempts.c.attempt)
    return [AttemptView(*row) for row in read(store, query)]


def attempt_errors(store: Store, run_id: str, key: str) -> dict[int, str | None]:
    """The errors of a step's failed attempts, as JSON, by attempt."""
    query = select(attempts.c.attempt, attempts.c.value).where(attempts.c.run_id == run_id, attempts.c.key == key)
    return {row[0]: row[1] for row in read(store, query)}


@dataclass(frozen=True, slots=True)
class StepValues:
    """A step's state, and as JSON its value, its edited input, and what it was called with."""

    state: str
    value: str | None
    input: str | None
    given: str | None


def step_values(store: Store, run_id: str, key: str) -> StepValues | None:
    """What a step holds; None when there is no such step."""
    columns = [steps.c[name] for name in StepValues.__dataclass_fields__]
    found = one(read(store, select(*columns).where(steps.c.run_id == run_id, steps.c.key == key)))
    return None if found is None else StepValues(*found)


def given_of(store: Store, run_id: str) -> dict[str, str]:
    """What the steps of a run were called with, as JSON by step, where that is recorded."""
    query = select(steps.c.key, steps.c.given).where(steps.c.run_id == run_id, steps.c.given.is_not(None))
    return {row[0]: row[1] for row in read(store, query)}


def awaited(store: Store, run_id: str, key: str) -> AwaitedView | None:
    """What a step waits for, or waited for."""
    columns = [waits.c[name] for name in AwaitedView.__dataclass_fields__]
    found = one(read(store, select(*columns).where(waits.c.run_id == run_id, waits.c.key == key)))
    return None if found is None else AwaitedView(*found)


def run_children(store: Store, run_ids: Collection[str]) -> list[ChildView]:
    """Runs that a run invoked, by their ids."""
    names = ("parent_key", "id", "flow", "status", "created_at", "started_at", "ended_at")
    query = select(*(runs.c[name] for name in names)).where(runs.c.id.in_(run_ids)).order_by(runs.c.id)
    return [ChildView(*row) for row in read(store, query)]
