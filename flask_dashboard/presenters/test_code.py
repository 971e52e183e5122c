"""A run as a test: the code that takes today's flow through the same event, values and moments."""

from collections.abc import Iterator
from pprint import pformat
from typing import Any

from celeryflows.console.events import EventSummary
from celeryflows.console.runs import RunDetail, StepSummary
from flask_dashboard.presenters.moments import length

CALLS = ("run", "transaction")
WIDTH = 100
NAMED = "_abcdefghijklmnopqrstuvwxyz0123456789"


def test_code(detail: RunDetail, answers: dict[str, EventSummary]) -> str:
    """Python for pytest; `answers` are the events that its waits found, by step."""
    run, event = detail.run, detail.event
    steps = [step for step in detail.steps if step.kind in CALLS and step.standing in ("done", "failed")]
    called = "".join(c if c in NAMED else "_" for c in run.flow.lower())
    lines = [
        *_imports(detail, answers),
        "",
        "",
        f"def test_{called}_as_in_{run.id[-6:].lower()}(flows_tester):",
        f'    """Run {run.id} was {run.status}."""',
        "    steps = {",
        *(f"        {step.id!r}: {_stub(step)}," for step in steps),
        "    }",
        f"    event = {_event(event) if event is not None else 'Event(...)  # the event is forgotten'}",
        f"    run = flows_tester.start({run.flow!r}, event, steps=steps)",
        *(f"    {line}" for line in _moves(detail.steps, answers)),
        f'    assert run.status == "{run.status}"',
    ]
    if run.status == "completed":
        lines.append(f"    assert run.output == {_shown(run.output, 8)}")
    elif run.error is not None:
        lines.append(f"    assert run.error.name == {run.error.name!r}")
    return "\n".join(lines) + "\n"


def _imports(detail: RunDetail, answers: dict[str, EventSummary]) -> Iterator[str]:
    shown = repr([detail.run.output, detail.event and detail.event.data, [s.value for s in detail.steps]])
    shown += repr([answer.data for answer in answers.values()])
    for module, mark in (("datetime", "datetime."), ("decimal", "Decimal("), ("uuid", "UUID(")):
        if mark in shown:
            yield f"import {module}" if module == "datetime" else f"from {module} import {mark[:-1]}"
    yield "from celeryflows import Event"


def _event(event: EventSummary) -> str:
    return f"Event({event.name!r}, {_shown(event.data, 8)})"


def _shown(value: Any, margin: int) -> str:
    """As it is written in code, over several lines where it is long."""
    text = pformat(value, width=WIDTH - margin, sort_dicts=False)
    return text.replace("\n", "\n" + " " * margin)


def _stub(step: StepSummary) -> str:
    if step.error is not None:
        return f"Exception({f'{step.error.name}: {step.error.message}'!r})"
    return _shown(step.value, 12)


def _moves(steps: tuple[StepSummary, ...], answers: dict[str, EventSummary]) -> Iterator[str]:
    """What made the run go on, in order: time that passed, events and signals that came."""
    for step in sorted(steps, key=lambda one: one.until or one.began):
        rested = length(step.until - step.began) if step.until is not None else None
        if step.kind == "sleep" and step.due_at is not None:
            yield f'flows_tester.advance("{_duration(step)}")'
        elif step.standing == "answered" and step.id in answers:
            yield f"flows_tester.send({_event(answers[step.id])})"
        elif step.standing == "answered" and step.kind == "signal":
            yield f"flows_tester.signal({step.awaits!r}, {_data(step.value)!r})"
        elif step.kind == "invoke" and rested is not None:
            yield f'flows_tester.advance("{_whole(step)}")  # what {step.id!r} invoked took {rested}'
        elif step.standing == "timed out":
            yield f'flows_tester.advance("{_duration(step)}")  # {step.id}: nothing came in {rested}'


def _duration(step: StepSummary) -> str:
    """Until its time had come, rounded up."""
    seconds = ((step.due_at or step.began) - step.began).total_seconds() if step.due_at else 0
    return f"{max(1, round(seconds * 1000 + 0.5))}ms"


def _whole(step: StepSummary) -> str:
    """As long as it took, in whole seconds and one more."""
    return f"{int(((step.until or step.began) - step.began).total_seconds()) + 1}s"


def _data(value: Any) -> Any:
    return getattr(value, "data", value)
