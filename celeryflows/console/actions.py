"""What an operator may do: send an event, signal, cancel one run or many, start runs again, pause and resume."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from celeryflows.engine import bulk, finish, intake, pausing, signalling, starting
from celeryflows.engine import replay as replaying
from celeryflows.engine import rerun as rerunning
from celeryflows.engine.bulk import Selection
from celeryflows.engine.registrar import register_sender
from celeryflows.engine.runtime import Runtime
from celeryflows.model.events import Event
from celeryflows.model.replays import read_pace
from celeryflows.store.reports.events import StartedRun, runs_of_events

PAUSED = "its flow was paused"


@dataclass(frozen=True, slots=True)
class Sent:
    """An event that was accepted, and the runs that it started."""

    id: str
    runs: tuple[StartedRun, ...]


@dataclass(frozen=True, slots=True)
class Paused:
    """A flow that is paused now. `changed`: it was not before; `cancelled`: how many of its runs were."""

    flow: str
    changed: bool
    cancelled: int


def send(runtime: Runtime, event: Event) -> Sent:
    """Send an event; when this returns it is committed. Raises InvalidEvent or StoreUnavailable."""
    register_sender(runtime)
    (event_id,) = intake.send(runtime, [event])
    return Sent(event_id, tuple(runs_of_events(runtime.store, [event_id])))


def signal(runtime: Runtime, name: str, data: Any = None) -> str | None:
    """Wake the run that waits for the signal; its id, None when none does. Raises InvalidEvent or BoundExceeded."""
    return signalling.signal(runtime, name, data)


def rerun(runtime: Runtime, run_id: str, *, from_step: str | None = None, input: Any = None) -> str:
    """Start an ended run again, whole or from a step; the new run's id. Raises UnknownRun or RerunRefused."""
    return rerunning.rerun(runtime, run_id, from_step, input)


def replay_event(runtime: Runtime, event_id: str, flow: str) -> str:
    """Start one flow with a stored event; the run's id. Raises UnknownEvent, UnknownFlow or RerunRefused."""
    register_sender(runtime)
    return rerunning.replay_event(runtime, event_id, flow)


def count_replay(
    runtime: Runtime,
    flow: str,
    *,
    after: datetime | str | None = None,
    before: datetime | str | None = None,
    status: str | Sequence[str] = "failed",
    if_exp: str | None = None,
) -> int:
    """How many runs a replay would start. Raises as `replay`."""
    register_sender(runtime)
    selection = replaying.select_runs(runtime, after=after, before=before, status=status, if_exp=if_exp)
    return replaying.count(runtime, flow, selection)


def replay(
    runtime: Runtime,
    flow: str,
    *,
    after: datetime | str | None = None,
    before: datetime | str | None = None,
    status: str | Sequence[str] = "failed",
    if_exp: str | None = None,
    pace: float | str = 10,
) -> str:
    """Start ended runs of a flow again, each once; the replay's id.

    Raises UnknownFlow, RerunRefused, ExpressionError or InvalidDuration.
    """
    register_sender(runtime)
    interval = read_pace(pace)
    selection = replaying.select_runs(runtime, after=after, before=before, status=status, if_exp=if_exp)
    return replaying.start_replay(runtime, flow, selection, interval)


def cancel_replay(runtime: Runtime, replay_id: str, *, because: str) -> bool:
    """Start no more runs of a replay; False when it had ended. Raises RerunRefused when there is none."""
    return replaying.stop_replay(runtime, replay_id, because)


def cancel(runtime: Runtime, run_id: str, *, because: str, terminate: bool = False) -> bool:
    """Cancel a run; False when it had ended. `terminate` also ends the process at work on it. Raises UnknownRun."""
    return finish.cancel(runtime, run_id, because, terminate=terminate)


# The open runs of a flow that were created in a time and fit a condition.
select_open = bulk.select_open


def count_open(runtime: Runtime, selection: Selection) -> int:
    """How many runs the selection has now."""
    return bulk.count_selected(runtime, selection)


def cancel_many(runtime: Runtime, selection: Selection, *, because: str) -> int:
    """Cancel them, a bounded piece a transaction; how many. Called again it goes on where an outage stopped it."""
    return bulk.cancel_selected(runtime, selection, because)


def cancel_while(runtime: Runtime, selection: Selection, *, because: str, seconds: float) -> tuple[int, bool]:
    """Cancel them for so long at most; how many, and whether all were."""
    until, done = runtime.clock.monotonic() + seconds, 0
    for count in bulk.cancel_pieces(runtime, selection, because):
        done += count
        if runtime.clock.monotonic() > until:
            return done, False
    return done, True


def invoke(runtime: Runtime, flow: str, data: Any = None) -> str:
    """Start a flow with this data, as `.delay()` does; the run's id. Raises UnknownFlow or InvalidEvent."""
    register_sender(runtime)
    return starting.start(runtime, starting.Call(flow, starting.call_event((data,), {})))


def pause(runtime: Runtime, flow: str, *, cancel_running: bool = False) -> Paused:
    """Pause a flow: what would start it makes skipped runs. Its runs go on, or are cancelled. Raises UnknownFlow."""
    changed = pausing.pause(runtime, flow)
    cancelled = bulk.cancel_selected(runtime, bulk.select_open(runtime, flow), PAUSED) if cancel_running else 0
    return Paused(flow, changed, cancelled)


def resume(runtime: Runtime, flow: str) -> bool:
    """Let a paused flow start again; False when it was not paused. Raises UnknownFlow."""
    return pausing.resume(runtime, flow)
