"""News as lines for a terminal: one for each event, for each run that starts or ends, for each step."""

from collections.abc import Callable
from datetime import datetime

from rich.text import Text

from celeryflows.cli.output import one_line_json, plain, span, status_text
from celeryflows.console.activity import About, News
from celeryflows.console.events import EventSummary
from celeryflows.console.runs import RunSummary, StepSummary
from celeryflows.model.runs import Status
from celeryflows.model.steps import RESTING

TAIL = 6


def line_of(news: News) -> Text:
    """One piece of news."""
    line = Text(clock(news.at), style="dim").append("  ", style="default")
    if news.event is not None:
        return line.append_text(_event(news.event))
    assert news.run is not None
    if news.step is not None:
        return line.append_text(_of_run("step", news.run)).append_text(_step(news.step))
    tell: Callable[[RunSummary], Text] = _start if news.about is About.START else _end
    return line.append_text(_of_run("run", news.run)).append_text(tell(news.run))


def clock(moment: datetime) -> str:
    """The time of day on this host's clock."""
    return moment.astimezone().strftime("%H:%M:%S.%f")[:-3]


def _event(event: EventSummary) -> Text:
    return Text.assemble(("event  ", "bold blue"), plain(event.name), " ", one_line_json(event.data, 120))


def _of_run(word: str, run: RunSummary) -> Text:
    # The end of an id tells runs of one moment apart.
    return Text.assemble((f"{word:<5}  ", "bold"), plain(run.flow, 60), (f" {run.id[-TAIL:]}  ", "dim"))


def _start(run: RunSummary) -> Text:
    if run.status is Status.SCHEDULED and run.wake_at is not None:
        return Text(f"scheduled for {clock(run.wake_at)}", style="blue")
    return Text(f"started as {run.id}")


def _end(run: RunSummary) -> Text:
    line = status_text(run.status)
    if run.started_at is not None and run.ended_at is not None:
        line.append(f" in {span(run.ended_at - run.started_at)}", style="default")
    if run.status is Status.COMPLETED:
        return line.append(" ").append_text(one_line_json(run.output, 120))
    if run.reason is not None:
        return line.append(": ").append_text(plain(run.reason, 200))
    if run.error is not None:
        return line.append(": ").append_text(plain(f"{run.error.name}: {run.error.message}", 300))
    return line


def _step(step: StepSummary) -> Text:
    line = Text.assemble(plain(step.id, 60), "  ", (step.standing, _STYLES.get(step.standing, "default")))
    if step.kind in RESTING:
        line.append_text(_rest(step))
    elif step.took is not None:
        line.append(f" in {span(step.took)}", style="default")
    if step.attempts > 1:
        line.append(f", attempt {step.attempts}", style="default")
    if step.error is not None:
        line.append(": ").append_text(plain(f"{step.error.name}: {step.error.message}", 300))
    if step.standing == "retrying" and step.due_at is not None:
        line.append(f", again at {clock(step.due_at)}", style="default")
    return line


def _rest(step: StepSummary) -> Text:
    words = Text(" for " if step.standing == "waiting" else " by " if step.standing == "answered" else "")
    if step.awaits and step.standing in ("waiting", "answered"):
        words.append_text(plain(step.awaits, 60))
    if step.until is None and step.due_at is not None:
        words.append(f" until {clock(step.due_at)}")
    return words


_STYLES = {"done": "green", "answered": "green", "failed": "red", "retrying": "yellow", "timed out": "yellow"}
