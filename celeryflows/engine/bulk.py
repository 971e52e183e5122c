"""Many runs cancelled at once: those of a flow, by time, state and condition, a bounded piece a transaction."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from celeryflows.durations import parse_moment
from celeryflows.engine.failures import read_failure
from celeryflows.engine.routing import cancel_runs
from celeryflows.engine.runtime import Runtime
from celeryflows.errors import UnknownFlow
from celeryflows.expressions import Expression, compile_expression, condition
from celeryflows.model.runs import OPEN, Status
from celeryflows.store.reports.selecting import events_of_runs, open_runs

NAMES = frozenset({"event", "error"})
LOOK, PIECE = 10_000, 100
Moment = datetime | str


@dataclass(frozen=True, slots=True)
class Selection:
    """Runs of a flow that have not ended. `span`: created from then on, and before then, in microseconds."""

    flow: str
    span: tuple[int | None, int | None] = (None, None)
    statuses: tuple[Status, ...] = ()
    condition: Expression | None = None


def select_open(
    runtime: Runtime,
    flow: str,
    *,
    after: Moment | None = None,
    before: Moment | None = None,
    if_exp: str | None = None,
    status: str | None = None,
) -> Selection:
    """Check what was asked for. `if_exp` is a CEL condition over `event` (the run's) and `error` (its body's last one).

    Raises UnknownFlow, ExpressionError, InvalidDuration for a moment without zone, ValueError for a state in which a
    run has ended.
    """
    if status is not None and status not in OPEN:
        raise ValueError(f"status={status!r}: one of {', '.join(sorted(OPEN))}; a run that has ended stays as it is")
    span = (
        None if after is None else parse_moment(after, "after"),
        None if before is None else parse_moment(before, "before"),
    )
    # It may come over HTTP or from a page.
    compiled = None if if_exp is None else compile_expression(if_exp, names=NAMES, what="if_exp", strict=True)
    check_flow(runtime, flow)
    return Selection(flow, span, (Status(status),) if status is not None else tuple(sorted(OPEN)), compiled)


def check_flow(runtime: Runtime, flow: str) -> None:
    """Raise UnknownFlow for a name that neither the store nor this process knows."""
    if flow in runtime.flows:
        return
    with runtime.store.connection() as connection:
        known = [stored.name for stored in connection.flows.all()]
    if flow not in known:
        names = ", ".join(sorted({*known, *runtime.flows})) or "none yet"
        raise UnknownFlow(f"No flow {flow!r}. Known: {names}.")


def count_selected(runtime: Runtime, selection: Selection) -> int:
    """How many there are now."""
    return sum(len(piece) for piece in _pieces(runtime, selection))


def cancel_selected(runtime: Runtime, selection: Selection, because: str) -> int:
    """Cancel them; how many. What an outage leaves, the next call finds."""
    return sum(cancel_pieces(runtime, selection, because))


def cancel_pieces(runtime: Runtime, selection: Selection, because: str) -> Iterator[int]:
    """Cancel them, a bounded piece for each step of the iterator; how many were."""
    for piece in _pieces(runtime, selection):
        yield len(cancel_runs(runtime, dict.fromkeys(piece, because))) if piece else 0


def _pieces(runtime: Runtime, selection: Selection) -> Iterator[list[str]]:
    cursor = ""
    while True:
        found = open_runs(
            runtime.store, selection.flow, selection.statuses, span=selection.span, cursor=cursor, limit=LOOK
        )
        for start in range(0, len(found), PIECE):
            yield _judged(runtime, selection.condition, found[start : start + PIECE])
        if len(found) < LOOK:
            return
        cursor = found[-1]


def _judged(runtime: Runtime, wanted: Expression | None, run_ids: list[str]) -> list[str]:
    if wanted is None:
        return run_ids
    rows: Sequence[tuple[str, str | None, Any]] = events_of_runs(runtime.store, run_ids)
    return [
        run_id
        for run_id, error, event in rows
        if condition(wanted, {"event": event.scope(), "error": read_failure(error).json() if error else None})[0]
    ]
