"""A run as a picture: its steps on one time axis, what worked, what waited, what failed."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from celeryflows.cli.output import local, one_line_json, plain, span, status_text
from celeryflows.console.runs import RunDetail, StepSummary
from celeryflows.model.branches import index_of, lineage
from celeryflows.model.runs import Status
from celeryflows.model.steps import RESTING, Failure

LEAST_BAR, MOST_BAR, BESIDE_BAR = 16, 72, 70
STYLES = {
    "done": "green",
    "answered": "green",
    "slept": "green",
    "failed": "red",
    "retrying": "yellow",
    "timed out": "yellow",
    "replaced": "yellow",
    "late": "magenta",
    "closed": "magenta",
}
WORKED, RESTED, BETWEEN = "work", "rest", "between"
GLYPHS = {WORKED: "█", RESTED: "░", BETWEEN: "·"}
ASCII_GLYPHS = {WORKED: "#", RESTED: "-", BETWEEN: "."}


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a step's time."""

    kind: str
    start: datetime
    end: datetime


def draw(detail: RunDetail, console: Console) -> RenderableType:
    """The run for a terminal."""
    parts: list[RenderableType] = [_head(detail)]
    if detail.event is not None:
        parts.append(Text.assemble("event  ", plain(detail.event.name), " ", one_line_json(detail.event.data, 160)))
    if detail.steps:
        parts += ["", _axis(detail, console)]
    return Group(*parts, "", *_end(detail))


def segments(step: StepSummary, now: datetime) -> list[Segment]:
    """What a step did with its time: attempts worked, sleeps and waits rested, the time between attempts."""
    end = step.until or now
    if step.kind in RESTING:
        return [Segment(RESTED, step.began, max(step.began, end))]
    recorded = step.recorded_at or end
    began = max(step.began, recorded - step.took) if step.took is not None else step.began
    found = [Segment(WORKED, began, recorded)]
    if step.attempts > 1 and began > step.began:
        found.insert(0, Segment(BETWEEN, step.began, began))
    if step.standing in ("retrying", "closed") and end > recorded:
        found.append(Segment(BETWEEN, recorded, end))
    return found


def bar(pieces: list[Segment], start: datetime, end: datetime, width: int, glyphs: dict[str, str]) -> str:
    """The pieces on an axis of so many letters; a short piece still shows."""
    whole = max((end - start) / timedelta(microseconds=1), 1.0)
    letters = [" "] * width
    for piece in sorted(pieces, key=lambda piece: piece.kind == WORKED):
        first = int((piece.start - start) / timedelta(microseconds=1) / whole * width)
        last = int((piece.end - start) / timedelta(microseconds=1) / whole * width)
        first = min(max(first, 0), width - 1)
        for place in range(first, min(max(last, first + 1), width)):
            letters[place] = glyphs[piece.kind]
    return "".join(letters)


def _head(detail: RunDetail) -> Text:
    run = detail.run
    head = Text.assemble("run    ", run.id, "  ", plain(run.flow), "  ", status_text(run.status))
    if run.parent is not None:
        head.append(f"  invoked by {run.parent} in step ").append_text(plain(run.parent_key or "", 80))
    if run.continued_from is not None:
        head.append(f"  goes on for {run.continued_from}")
    if run.origin is not None:
        head.append(f"  rerun of {run.origin}")
    if run.started_at is None:
        return head.append(f"  created {local(run.created_at)}")
    until = run.ended_at or detail.now
    head.append(f"  started {local(run.started_at)}, {'took' if run.ended_at else 'under way for'} ")
    return head.append(f"{span(until - run.started_at)}, {run.turn} {'turn' if run.turn == 1 else 'turns'}")


def _axis(detail: RunDetail, console: Console) -> Table:
    run = detail.run
    start = min([run.created_at, *(step.began for step in detail.steps if not step.kept)])
    end = max(run.ended_at or detail.now, start)
    width = min(max(console.width - BESIDE_BAR, LEAST_BAR), MOST_BAR)
    glyphs = ASCII_GLYPHS if console.options.ascii_only else GLYPHS
    length = span(end - start)
    found = Table(box=None, pad_edge=False, show_edge=False, header_style="dim")
    found.add_column("step", max_width=24, overflow="ellipsis", no_wrap=True)
    found.add_column("kind", no_wrap=True)
    found.add_column(f"0{length:>{width - 1}}", no_wrap=True, width=width)
    found.add_column("", overflow="ellipsis", no_wrap=True)
    for step in detail.steps:
        style = STYLES.get(step.standing, "cyan")
        pieces = [] if step.kept else segments(step, end)
        picture = Text(bar(pieces, start, end, width, glyphs), style=style)
        found.add_row(plain(_name(step), 80), step.kind, picture, _words(step, end))
    return found


def _name(step: StepSummary) -> str:
    """A branch's step stands indented below its group, by its place in it: `  [2] charge`."""
    if not step.branch:
        return step.id
    own = step.id.removeprefix(f"{step.branch}/")
    return f"{'  ' * len(lineage(step.branch))}[{index_of(step.branch)}] {own}"


def _words(step: StepSummary, now: datetime) -> Text:
    words = Text(step.standing, style=STYLES.get(step.standing, "cyan"))
    if step.kept:
        return words.append(", kept", style="dim")
    if step.kind in RESTING:
        words.append(f" {span((step.until or now) - step.began)}", style="dim")
        if step.until is None and step.due_at is not None:
            words.append(f", until {local(step.due_at)}")
    elif step.took is not None:
        words.append(f" {span(step.took)}", style="dim")
    if step.awaits:
        words.append(" ").append_text(plain(step.awaits, 60))
    if step.attempts > 1:
        words.append(f", {step.attempts} attempts")
    if step.standing == "retrying" and step.due_at is not None:
        words.append(f", again at {local(step.due_at)}")
    if step.error is not None:
        words.append(", ").append_text(plain(f"{step.error.name}: {step.error.message}", 120, "red"))
    if step.problem:
        words.append(", ").append_text(plain(step.problem, 120, "yellow"))
    return words


def _end(detail: RunDetail) -> Iterator[RenderableType]:
    run = detail.run
    if run.continued_as is not None:
        yield Text(f"goes on as {run.continued_as}")
    elif run.status is Status.COMPLETED:
        yield Text.assemble("output ", one_line_json(run.output, 2_000))
    if run.reason:
        yield Text.assemble("reason ", plain(run.reason))
    if run.error is not None:
        yield from _error(run.error, "error  " if run.status is Status.FAILED else "last error of the body  ")
    if run.status is Status.RUNNING:
        yield Text("a worker is at work on it")
    if detail.steps_left is not None:
        yield Text(f"{len(detail.steps):,} steps, {detail.steps_left:,} more and it fails (flows_max_steps)", "yellow")
    if run.wake_at is not None and run.ended_at is None:
        yield Text(f"goes on at {local(run.wake_at)}, or when what it waits for comes first")


def _error(error: Failure, label: str) -> Iterator[Text]:
    where = f" in step {error.step_id!r}" if error.step_id else ""
    yield Text.assemble(label, plain(f"{error.name}: {error.message}{where}", 2_000, "red"))
    for line in error.stack.splitlines()[-40:]:
        yield Text.assemble("  ", plain(line, style="dim"))
