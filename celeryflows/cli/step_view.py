"""One step of a run at a terminal: what it was called with, what came of it, each attempt."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from celeryflows.cli.output import local, one_line_json, plain, span
from celeryflows.console.run_pages import Attempt, StepPage
from celeryflows.console.runs import StepSummary
from celeryflows.model.steps import Failure

MOST = 4_000


def draw_step(step: StepSummary, held: StepPage) -> RenderableType:
    """The step for a terminal."""
    took = f", ran {span(step.took)}" if step.took is not None else ""
    head = Text.assemble(
        "step   ", plain(step.id, 200), f"  {step.kind}  {step.standing}  began {local(step.began)}{took}"
    )
    return Group(head, *_values(step, held), *(line for one in held.attempts for line in _attempt(one)))


def _values(step: StepSummary, held: StepPage) -> Iterator[RenderableType]:
    given = held.given.data if held.given is not None else None
    for word, value in (("input", held.called_with), ("edited", held.input), ("event", given)):
        if value is not None:
            yield Text.assemble(f"{word:<7}", one_line_json(value, MOST))
    if held.awaited is not None:
        where = held.awaited.if_exp or (f"{held.awaited.path} == {held.awaited.value}" if held.awaited.path else "")
        yield Text.assemble("waits  ", plain(f"{held.awaited.name} {where}", MOST))
    if held.event is not None:
        yield Text.assemble("found  ", plain(held.event.name), " ", one_line_json(held.event.data, MOST))
    elif held.error is None and step.until is not None:
        yield Text.assemble("output ", one_line_json(held.value, MOST))
    if held.error is not None:
        yield from _error("error  ", held.error)


def _attempt(one: Attempt) -> Iterator[Text]:
    if one.error is not None:
        yield from _error(f"attempt {one.number}, {local(one.ended_at)}  ", one.error)


def _error(label: str, error: Failure) -> Iterator[Text]:
    yield Text.assemble(label, plain(f"{error.name}: {error.message}", MOST, "red"))
    for line in error.stack.splitlines()[-40:]:
        yield Text.assemble("  ", plain(line, style="dim"))
