"""What happens, told in the process where it happens: blinker signals with frozen values, sent after the commit.

`run_failed.connect(fn)` hears of every flow, `connect(fn, sender="shop.order")` of one; fn(sender, run=...)."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from blinker import NamedSignal, Namespace

from celeryflows.model.events import Event
from celeryflows.model.steps import Failure

logger = logging.getLogger("celeryflows")


@dataclass(frozen=True, slots=True)
class RunNews:
    """A run that came into a state; what does not belong to that state is None.

    `event_id` is our id of its event; `turn` how often it was taken up; `attempt` the body's, 0-based. `duration` is
    the time since its first turn began, `wake_at` when a suspended one goes on by itself. `output` is the value of a
    completed run, `error` that of a failed one or of a body that is tried again, `reason` why it was cancelled or
    skipped.
    """

    run_id: str
    flow: str
    event_id: str
    turn: int = 0
    attempt: int = 0
    version: str | None = None
    duration: timedelta | None = None
    wake_at: datetime | None = None
    output: Any = None
    error: Failure | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class StepNews:
    """An attempt of a step that began or ended.

    `step_id` is the id with its count (`charge`, `charge:1`), `attempt` 0-based, `duration` that of the attempt.
    `error` and `retry_at` belong to a failed one; `retry_at` is None when its attempts are spent.
    """

    run_id: str
    flow: str
    step_id: str
    kind: str
    attempt: int
    duration: timedelta | None = None
    value: Any = None
    error: Failure | None = None
    retry_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class EventNews:
    """An event that is stored and routed: `id` is ours, `event` as handlers see it, its data plain JSON."""

    id: str
    event: Event


@dataclass(frozen=True, slots=True)
class LimitNews:
    """A limit that held a run back or skipped it: the option's name, its key's value, and what became of the run."""

    run_id: str
    flow: str
    limit: str
    key: str | None
    effect: str


_signals = Namespace()
event_received = _signals.signal("event_received", "event=EventNews; sender: the event's name.")
run_queued = _signals.signal("run_queued", "run=RunNews, before its first turn: it may start now.")
run_started = _signals.signal("run_started", "run=RunNews: its first turn begins.")
run_suspended = _signals.signal("run_suspended", "run=RunNews: it sleeps, waits or backs off, each time.")
run_completed = _signals.signal("run_completed", "run=RunNews with its output.")
run_failed = _signals.signal("run_failed", "run=RunNews with its error.")
run_cancelled = _signals.signal("run_cancelled", "run=RunNews with the reason.")
run_skipped = _signals.signal("run_skipped", "run=RunNews with the reason.")
step_started = _signals.signal("step_started", "step=StepNews: an attempt begins.")
step_completed = _signals.signal("step_completed", "step=StepNews with its value.")
step_failed = _signals.signal("step_failed", "step=StepNews with its error, after each failed attempt.")
limit_reached = _signals.signal("limit_reached", "limit=LimitNews.")


def tell(signal: NamedSignal, sender: str, **news: Callable[[], Any]) -> None:
    """Call who listens; the value is made only for them, and one that raises is logged and harms nobody."""
    receivers = list(signal.receivers_for(sender))
    if not receivers:
        return
    try:
        values = {name: make() for name, make in news.items()}
    except Exception:
        logger.exception("the signal %s of %s could not be told", signal.name, sender)
        return
    for receiver in receivers:
        try:
            receiver(sender, **values)
        except Exception:
            logger.exception("a receiver of the signal %s raised; nothing else is harmed", signal.name)


__all__ = [
    "EventNews",
    "LimitNews",
    "RunNews",
    "StepNews",
    "event_received",
    "limit_reached",
    "run_cancelled",
    "run_completed",
    "run_failed",
    "run_queued",
    "run_skipped",
    "run_started",
    "run_suspended",
    "step_completed",
    "step_failed",
    "step_started",
    "tell",
]
