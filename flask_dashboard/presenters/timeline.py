"""A run's steps as rows of bars on one time axis: queue delay apart from work, attempts one by one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from celeryflows.console.run_pages import Attempt, ChildView, RunPage, child_moments
from celeryflows.console.runs import StepSummary
from flask_dashboard.presenters.axis import Axis, Mark, Span, axis_of
from flask_dashboard.presenters.moments import length

RESTING = ("sleep", "wait", "signal", "invoke", "task")
GROUPS = ("parallel", "race")
KINDS = {
    "run": "step",
    "sleep": "sleep",
    "wait": "wait for event",
    "signal": "wait for signal",
    "invoke": "invoke",
    "task": "task",
    "send": "send event",
    "transaction": "transaction",
    "parallel": "parallel",
    "race": "race",
}
# Below this a delay is the way from one step to the next, not a queue.
LEAST_DELAY = timedelta(milliseconds=5)


@dataclass(frozen=True, slots=True)
class Bar:
    """A piece of a row from `x` per cent on, `width` per cent wide; `look` is its class, `title` says what it is."""

    look: str
    x: float
    width: float
    title: str


@dataclass(frozen=True, slots=True)
class Row:
    """A step, or with the key '' the run itself."""

    key: str
    label: str
    kind: str
    standing: str
    depth: int
    bars: tuple[Bar, ...]
    took: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Timeline:
    """The rows with the marks of their axis."""

    rows: tuple[Row, ...]
    ticks: tuple[Mark, ...]
    breaks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class _Piece:
    look: str
    start: datetime
    end: datetime
    title: str
    works: bool = False


def timeline(page: RunPage, *, folded: bool = True) -> Timeline:
    """The rows of a run's page. Of a run with many steps the axis is as long as those that are shown."""
    start, end = page.run.created_at, page.run.ended_at or page.now
    whole = length(end - start)
    shown = page.steps
    delays = _wakes(shown)
    children = {child.run_id: child for child in page.children}
    pieces = {step.id: [*delays.get(step.id, ()), *_pieces(step, page, children)] for step in shown}
    body = list(_body(page))
    spans = [Span(p.start, p.end, p.works) for found in (body, *pieces.values()) for p in found]
    if len(shown) < page.count:
        start, end = _part(pieces, start, end)
    axis = axis_of(spans, start, end, folded=folded, zero=page.run.created_at)
    rows = [Row("", "run", "run", page.run.status, 0, _bars(axis, body), whole)]
    for step in shown:
        label = step.id[len(step.branch) + 1 :] if step.branch else step.id
        took = _took(step, page)
        rows.append(
            Row(
                step.id,
                label,
                KINDS.get(step.kind, step.kind),
                step.standing,
                1 + step.branch.count("["),
                _bars(axis, pieces[step.id]),
                took,
                _note(step),
            )
        )
    return Timeline(tuple(rows), axis.ticks(), axis.breaks)


def _part(pieces: Mapping[str, Sequence[_Piece]], start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """From the first to the last moment of the steps that are shown."""
    found = [piece for ones in pieces.values() for piece in ones]
    return min((p.start for p in found), default=start), max((p.end for p in found), default=end)


def _body(page: RunPage) -> Iterator[_Piece]:
    run = page.run
    end = run.ended_at or page.now
    begun = run.started_at or end
    if begun - run.created_at >= LEAST_DELAY:
        yield _Piece("queue", run.created_at, begun, f"queued for {length(begun - run.created_at)}")
    if run.started_at is not None:
        yield _Piece(f"whole {run.status}", run.started_at, end, f"{run.status}, {length(end - run.started_at)}")
        for one in page.attempts.get("", ()):
            yield _Piece("tried", one.ended_at, one.ended_at, f"attempt {one.number} of the body failed")


def _pieces(step: StepSummary, page: RunPage, children: Mapping[str, ChildView]) -> Iterator[_Piece]:
    end = step.until or page.run.ended_at or page.now
    if step.kind in RESTING or step.kind in GROUPS:
        yield from _resting(step, page, end, children.get(step.child or ""))
        return
    if step.standing == "edited":
        return
    tries = page.attempts.get(step.id, ())
    ready = step.began
    for one in tries:
        began = one.ended_at - (one.took or timedelta(0))
        yield from _delay(ready, began, "backoff" if one is not tries[0] else "queue")
        yield _Piece("work failed", began, one.ended_at, f"attempt {one.number} failed after {length(one.took)}", True)
        ready = one.ended_at
    if step.standing in ("retrying", "closed") and tries:
        yield _Piece("backoff", ready, page.run.ended_at or page.now, f"tried again {_until(step.due_at)}")
    elif step.recorded_at is not None:
        yield from _last(step, ready, tries)


def _last(step: StepSummary, ready: datetime, tries: Sequence[Attempt]) -> Iterator[_Piece]:
    ended = step.recorded_at or ready
    began = max(ended - (step.took or timedelta(0)), ready)
    yield from _delay(ready, began, "backoff" if tries else "queue")
    look = "failed" if step.standing == "failed" else "late" if step.standing == "late" else "completed"
    words = f"attempt {step.attempts}, " if step.attempts > 1 else ""
    yield _Piece(f"work {look}", began, ended, f"{words}{step.standing} in {length(step.took)}", True)


def _wakes(steps: Sequence[StepSummary]) -> dict[str, tuple[_Piece, ...]]:
    """The time from the end of a rest, or the opening of a branch, to the step that came next: the turn was queued."""
    found: dict[str, tuple[_Piece, ...]] = {}
    rested: dict[str, datetime | None] = {}
    groups = {step.id: step.began for step in steps if step.kind in GROUPS}
    for step in sorted((one for one in steps if not one.kept), key=lambda one: one.began):
        ready = rested.get(step.branch, groups.get(step.branch.rpartition("[")[0]))
        if ready is not None and ready < step.began:
            found[step.id] = tuple(_delay(ready, step.began, "queue"))
        rested[step.branch] = step.until if step.kind in RESTING or step.kind in GROUPS else None
    return found


def _delay(ready: datetime, began: datetime, look: str) -> Iterator[_Piece]:
    if began - ready >= LEAST_DELAY:
        words = "until it was tried again" if look == "backoff" else "until it began"
        yield _Piece(look, ready, began, f"{length(began - ready)} {words}")


def _resting(step: StepSummary, page: RunPage, end: datetime, child: ChildView | None) -> Iterator[_Piece]:
    looks = {"sleep": "sleep", "invoke": "invoke", "task": "invoke", **dict.fromkeys(GROUPS, "group")}
    look = looks.get(step.kind, "wait")
    yield _Piece(
        f"{look} {step.standing.replace(' ', '-')}", step.began, end, f"{step.standing}, {length(end - step.began)}"
    )
    if child is not None:
        _made, started, ended = child_moments(child)
        if started is not None:
            yield _Piece(f"child {child.status}", started, ended or page.now, f"{child.flow} {child.status}", True)


def _bars(axis: Axis, pieces: Sequence[_Piece]) -> tuple[Bar, ...]:
    found = []
    for piece in pieces:
        left = axis.x(piece.start)
        found.append(Bar(piece.look, left, round(max(0.0, axis.x(piece.end) - left), 3), piece.title))
    return tuple(found)


def _took(step: StepSummary, page: RunPage) -> str:
    if step.kind in RESTING or step.kind in GROUPS:
        return length((step.until or page.run.ended_at or page.now) - step.began)
    return length(step.took) if step.took is not None else ""


def _note(step: StepSummary) -> str:
    if step.kept:
        return "kept"
    return f"attempt {step.attempts}" if step.attempts > 1 else ""


def _until(moment: datetime | None) -> str:
    return "later" if moment is None else f"at {moment:%H:%M:%S}"
