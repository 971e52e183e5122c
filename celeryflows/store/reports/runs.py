"""Runs as pages and terminals show them: lists by page, one run with its steps. Plain Core, each a short read."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, literal_column, null, or_, select, text

from celeryflows.durations import MINUTE
from celeryflows.model.events import StoredEvent
from celeryflows.model.runs import Status
from celeryflows.store.database import Store
from celeryflows.store.events import read_event
from celeryflows.store.limit_tables import batch_events
from celeryflows.store.reports.reading import read
from celeryflows.store.retention import first_id
from celeryflows.store.schema import BADLY, RARE, branches, events, groups, runs, steps, waits


@dataclass(frozen=True, slots=True)
class RunView:
    """A run's row for a list. Times in microseconds."""

    id: str
    flow: str
    status: str
    version: str | None
    event_id: str
    turn: int
    attempt: int
    created_at: int
    started_at: int | None
    ended_at: int | None
    wake_at: int | None
    reason: str | None
    output: str | None
    error: str | None
    parent: str | None = None
    parent_key: str | None = None
    continued_from: str | None = None
    continued_as: str | None = None
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class StepView:
    """A step for a timeline. `value` is JSON; `wait` tells how what it waits for stands, `group` how its group does,
    `branch` the branch that it belongs to. Microseconds."""

    id: str
    kind: str
    state: str
    attempts: int
    value: str | None
    turn: int
    began: int
    ended_at: int | None
    took: int | None
    due_at: int | None
    wait: str | None = None
    wait_name: str | None = None
    problem: str | None = None
    event_id: str | None = None
    answered_at: int | None = None
    branch: str = ""
    branch_ended_at: int | None = None
    group: str | None = None
    joined_at: int | None = None


@dataclass(frozen=True, slots=True)
class StepPlace:
    """Where a step stands among the others."""

    id: str
    kind: str
    branch: str


# The clocks of senders, which make ids, and of the store may differ by so much.
SKEW = 10 * MINUTE
# Ids of the time begin with 00 or 01 for centuries.
ODD_FROM = "02"
# From so many events of a name on its runs are found sooner along all runs than from event to event.
MANY = 2_000
BAD_ENDS = (Status.FAILED, Status.CANCELLED, Status.SKIPPED)
RUN = [runs.c[name] for name in RunView.__dataclass_fields__]
# A value may be long, and no line of a list shows it.
LINE = [null() if column is runs.c.output else column for column in RUN]
_members = branches.alias()
STEP = [
    *(
        steps.c[name]
        for name in ("key", "kind", "state", "attempts", "value", "turn", "began", "ended_at", "took", "due_at")
    ),
    waits.c.state,
    waits.c.name,
    waits.c.problem,
    waits.c.event_id,
    events.c.arrived_at,
    steps.c.branch,
    branches.c.ended_at,
    groups.c.state,
    select(func.max(_members.c.ended_at))
    .where(_members.c.run_id == groups.c.run_id, _members.c.group_path == groups.c.path, groups.c.state != "open")
    .scalar_subquery(),
]
# Without their values: a run may have a thousand of 4 MiB.
STEP_LINE = [null() if column is steps.c.value else column for column in STEP]
_BEGAN = (steps.c.began, steps.c.ended_at, steps.c.key)
STEPS_AND_WAITS = (
    steps.outerjoin(waits, (waits.c.run_id == steps.c.run_id) & (waits.c.key == steps.c.key))
    .outerjoin(events, events.c.id == waits.c.event_id)
    .outerjoin(branches, (branches.c.run_id == steps.c.run_id) & (branches.c.path == steps.c.branch))
    .outerjoin(groups, (groups.c.run_id == steps.c.run_id) & (groups.c.path == steps.c.key))
)


def list_runs(
    store: Store,
    *,
    status: str | None = None,
    flow: str | None = None,
    span: tuple[int | None, int | None] = (None, None),
    event: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
    columns: Sequence[ColumnElement[Any]] = RUN,
) -> list[RunView]:
    """Runs, the newest id first; `cursor` is the last id of the page before, so that pages never overlap.

    `span` is from when, and before when, they were created; `event` the name of the event that started them;
    `columns` is RUN, or LINE without the values.
    """
    order = order_of(Status(status) if status is not None else None)
    query: Select[Any] = select(*columns).order_by(order.desc()).limit(limit)
    if status in BAD_ENDS and flow is not None:
        query = query.where(ended_badly(store, Status(status)))
    elif status is not None:
        query = query.where(standing(Status(status)))
    if flow is not None:
        query = query.where(runs.c.flow == flow)
    if event is not None:
        query = query.where(_of_event(store, event))
    if cursor is not None:
        query = query.where(order < cursor)
    query = query.where(*_within(span))
    before = span[1]
    # Where the clock is turned, ids tell another time than runs.
    if before is None or order is not runs.c.id or store.dialect.turned:
        return [RunView(*row) for row in read(store, query)]
    # Not along all that came later: ids begin with the time, but for those of a caller's own, which sort behind.
    rows = read(store, query.where(runs.c.id >= ODD_FROM))
    if len(rows) < limit:
        rows += read(store, query.where(runs.c.id < first_id(before + SKEW)).limit(limit - len(rows)))
    return [RunView(*row) for row in rows]


def _of_event(store: Store, name: str) -> ColumnElement[bool]:
    """Runs that an event of the name started: few events are sought one by one, for many each run tells its own."""
    some = select(literal_column("1")).where(events.c.name == name).limit(MANY).subquery()
    if read(store, select(func.count()).select_from(some))[0][0] < MANY:
        return and_(runs.c.event_id == events.c.id, events.c.name == name)
    looked_up = select(events.c.name).where(events.c.id == runs.c.event_id).scalar_subquery()
    return or_(runs.c.event_name == name, and_(runs.c.event_name.is_(None), looked_up == name))


def _within(span: tuple[int | None, int | None]) -> Iterator[ColumnElement[bool]]:
    after, before = span
    if after is not None:
        yield runs.c.created_at >= after
    if before is not None:
        yield runs.c.created_at < before


def ended_badly(store: Store, status: Status) -> ColumnElement[bool]:
    """Runs that ended so, sought with their flow. SQLite has to be told what PostgreSQL sees: that the index has them;
    told too, PostgreSQL would count that as one condition more and take another index."""
    here = runs.c.status == literal_column(f"'{status}'")
    return and_(here, text(BADLY)) if store.dialect.name == "sqlite" else here


def standing(status: Status) -> ColumnElement[bool]:
    """Runs in one state, so written that both databases use the index for it."""
    here = runs.c.status == literal_column(f"'{status}'")
    if status in (Status.QUEUED, Status.RUNNING):
        return and_(here, runs.c.sends >= literal_column("0"))
    return here if status is Status.COMPLETED else and_(here, text(RARE))


def order_of(status: Status | None) -> ColumnElement[str]:
    """The id to sort and page by. What is queued or running is sought by its state, not along all ids."""
    return runs.c.id + literal_column("''") if status in (Status.QUEUED, Status.RUNNING) else runs.c.id


def one_run(store: Store, run_id: str) -> RunView | None:
    """One run, None when there is none."""
    rows = read(store, select(*RUN).where(runs.c.id == run_id))
    return RunView(*rows[0]) if rows else None


def run_steps(
    store: Store,
    run_id: str,
    columns: Sequence[ColumnElement[Any]] = STEP,
    *,
    keys: Collection[str] | None = None,
    limit: int | None = None,
) -> list[StepView]:
    """A run's steps in the order in which they began; `columns` is STEP, or STEP_LINE without the values; `keys`: these
    alone."""
    query = select(*columns).select_from(STEPS_AND_WAITS).where(steps.c.run_id == run_id)
    if keys is not None:
        query = query.where(steps.c.key.in_(keys))
    return [StepView(*row) for row in read(store, query.order_by(*_BEGAN).limit(limit))]


def step_places(store: Store, run_id: str) -> list[StepPlace]:
    """All steps of a run in the same order, and no more of them than that takes."""
    query = select(steps.c.key, steps.c.kind, steps.c.branch).where(steps.c.run_id == run_id).order_by(*_BEGAN)
    return [StepPlace(*row) for row in read(store, query)]


def run_events(store: Store, run_id: str) -> list[StoredEvent]:
    """The events that started a run: of a batch's all, in the order in which they came."""
    join = events.join(runs, runs.c.event_id == events.c.id)
    columns = [events.c[name] for name in ("id", "ext_id", "name", "data", "ts", "v")]
    of_batch = (
        select(*columns)
        .select_from(
            events.join(batch_events, batch_events.c.event_id == events.c.id).join(
                runs, runs.c.id == batch_events.c.run_id
            )
        )
        .where(runs.c.id == run_id, runs.c.batch.is_not(None), batch_events.c.no >= 0)
        .order_by(batch_events.c.no, events.c.id)
    )
    rows = read(store, of_batch) or read(store, select(*columns).select_from(join).where(runs.c.id == run_id))
    return [read_event(row) for row in rows]


def count_by_status(store: Store) -> dict[str, int]:
    """How many runs stand where."""
    return {row[0]: row[1] for row in read(store, select(runs.c.status, func.count()).group_by(runs.c.status))}
