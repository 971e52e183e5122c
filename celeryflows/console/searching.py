"""Which runs a list shows: by state, flow, time, the event that started them, and a condition over what they hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from celeryflows.codec import loads
from celeryflows.durations import parse_moment
from celeryflows.engine.bulk import Moment
from celeryflows.engine.failures import read_failure
from celeryflows.engine.runtime import Runtime
from celeryflows.expressions import Expression, compile_expression, condition
from celeryflows.model.events import StoredEvent
from celeryflows.model.runs import ENDED, OPEN, Status
from celeryflows.store.reports.runs import RUN, RunView, list_runs
from celeryflows.store.reports.selecting import events_of_runs

NAMES = frozenset({"event", "output", "error"})
# A condition is judged here, run by run: so many at a time, and so many for one page.
PIECE, LOOK = 200, 5_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a list shows. `span`: created from then on, and before then, in microseconds; `event`: the name of the event
    that started it."""

    status: str | None = None
    flow: str | None = None
    span: tuple[int | None, int | None] = (None, None)
    event: str | None = None
    condition: Expression | None = None


EVERYTHING = Wanted()


def open_states() -> frozenset[str]:
    """The states in which a run goes on."""
    return frozenset(OPEN)


def ended_states() -> frozenset[str]:
    """The states in which a run has ended."""
    return frozenset(ENDED)


def wanted_runs(
    *,
    status: str | None = None,
    flow: str | None = None,
    after: Moment | None = None,
    before: Moment | None = None,
    event: str | None = None,
    if_exp: str | None = None,
) -> Wanted:
    """Check what was asked for. `if_exp` is a CEL condition over `event`, `output` and `error`; what a run has not is
    null, and one that cannot be judged is not shown.

    Raises ExpressionError, InvalidDuration for a moment without zone, ValueError for an unknown state.
    """
    if status is not None:
        status = Status(status)
    span = (
        None if after is None else parse_moment(after, "after"),
        None if before is None else parse_moment(before, "before"),
    )
    # It may come over HTTP or from a page.
    compiled = None if if_exp is None else compile_expression(if_exp, names=NAMES, what="if_exp", strict=True)
    return Wanted(status, flow, span, event, compiled)


def find_runs(
    runtime: Runtime,
    wanted: Wanted,
    *,
    limit: int,
    cursor: str | None = None,
    columns: Sequence[Any] = RUN,
) -> tuple[list[RunView], str | None]:
    """A page of runs by id, the newest first, and the cursor of the next one, None at the end.

    With a condition a page may have fewer runs than asked for, when 5,000 were looked at for it. `columns`: RUN, or
    LINE for lists that show no values.
    """
    if wanted.condition is None:
        rows = _rows(runtime, wanted, limit + 1, cursor, columns)
        return rows[:limit], rows[limit - 1].id if len(rows) > limit else None
    found: list[RunView] = []
    for _ in range(LOOK // PIECE):
        rows = _rows(runtime, wanted, PIECE, cursor)
        for row in _judged(runtime, wanted.condition, rows):
            found.append(row)
            if len(found) == limit:
                return found, row.id
        if len(rows) < PIECE:
            return found, None
        cursor = rows[-1].id
    return found, cursor


def all_found(runtime: Runtime, wanted: Wanted, *, limit: int, cursor: str | None = None) -> list[RunView]:
    """So many runs, however many have to be looked at."""
    found: list[RunView] = []
    while len(found) < limit:
        rows, cursor = find_runs(runtime, wanted, limit=limit - len(found), cursor=cursor)
        found += rows
        if cursor is None:
            break
    return found


def _rows(
    runtime: Runtime, wanted: Wanted, limit: int, cursor: str | None, columns: Sequence[Any] = RUN
) -> list[RunView]:
    return list_runs(
        runtime.store,
        status=wanted.status,
        flow=wanted.flow,
        span=wanted.span,
        event=wanted.event,
        limit=limit,
        cursor=cursor,
        columns=columns,
    )


def _judged(runtime: Runtime, wanted: Expression, rows: list[RunView]) -> list[RunView]:
    events = {run_id: event for run_id, _, event in events_of_runs(runtime.store, [row.id for row in rows])}
    return [row for row in rows if condition(wanted, _scope(row, events.get(row.id)))[0]]


def _scope(row: RunView, event: StoredEvent | None) -> dict[str, Any]:
    return {
        "event": None if event is None else event.scope(),
        "output": loads(row.output) if row.output is not None and row.status == Status.COMPLETED else None,
        "error": read_failure(row.error).json() if row.error else None,
    }
