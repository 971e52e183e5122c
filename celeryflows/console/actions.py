"""What an operator may do: send an event, cancel a run."""

from dataclasses import dataclass

from celeryflows.engine import finish, intake
from celeryflows.engine.registrar import register_sender
from celeryflows.engine.runtime import Runtime
from celeryflows.model.events import Event
from celeryflows.store.reports.events import StartedRun, runs_of_events


@dataclass(frozen=True, slots=True)
class Sent:
    """An event that was accepted, and the runs that it started."""

    id: str
    runs: tuple[StartedRun, ...]


def send(runtime: Runtime, event: Event) -> Sent:
    """Send an event; when this returns it is committed. Raises InvalidEvent or StoreUnavailable."""
    register_sender(runtime)
    (event_id,) = intake.send(runtime, [event])
    return Sent(event_id, tuple(runs_of_events(runtime.store, [event_id])))


def cancel(runtime: Runtime, run_id: str, *, because: str) -> bool:
    """Cancel a run; False when it had ended. Raises UnknownRun."""
    return finish.cancel(runtime, run_id, because)
