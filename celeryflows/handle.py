"""Handles of a run and of a replay: how they stand, a run's value, and what an operator may do with them."""

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from celeryflows.durations import to_datetime
from celeryflows.engine.endings import last_of
from celeryflows.engine.failures import read_failure
from celeryflows.engine.finish import cancel, read_output
from celeryflows.engine.replay import known_replay, stop_replay
from celeryflows.engine.rerun import rerun
from celeryflows.engine.runtime import Runtime
from celeryflows.errors import RunCancelled, RunFailed, RunTimeout, UnknownRun
from celeryflows.model.events import Event
from celeryflows.model.replays import read_selection
from celeryflows.model.runs import Status
from celeryflows.model.steps import Failure
from celeryflows.store.replays import ReplayRow
from celeryflows.store.reports.replays import count_replayed
from celeryflows.store.reports.runs import StepView, run_events, run_steps
from celeryflows.store.runs import Outcome

FIRST_LOOK, SLOWEST_LOOK = 0.02, 0.5


@dataclass(frozen=True, slots=True)
class RunHandle:
    """One run of the store, read anew at each access. Raises UnknownRun when there is none of that id."""

    id: str
    runtime: Runtime

    def _outcome(self) -> Outcome:
        with self.runtime.store.connection() as connection:
            found = connection.runs.outcome(self.id)
        if found is None:
            raise UnknownRun(f"No run {self.id!r} in the store {self.runtime.store.shown_url()}.")
        return found

    def _looked_for(self) -> Outcome:
        """As who waits does: a store that is away for a moment is waited for, and a crowd leaves it to who works."""

        def look() -> Outcome:
            with self.runtime.store.looks:
                return self._outcome()

        with self.runtime.store.connection() as connection:
            return connection.repeat(look)

    @property
    def flow(self) -> str:
        """The flow's name."""
        return self._outcome().flow

    @property
    def status(self) -> Status:
        """Where the run stands."""
        return Status(self._outcome().status)

    @property
    def reason(self) -> str | None:
        """Why it was cancelled or skipped."""
        return self._outcome().reason

    @property
    def output(self) -> Any:
        """The value of a completed run, else None."""
        found = self._outcome()
        return read_output(found.status, found.output)

    @property
    def error(self) -> Failure | None:
        """The error of a failed run, or the last one of a body that is tried again: name, message, stack, step_id."""
        text = self._outcome().error
        return read_failure(text) if text else None

    @property
    def steps(self) -> list[StepView]:
        """Its steps in the order in which they began."""
        return run_steps(self.runtime.store, self.id)

    @property
    def events(self) -> list[Event]:
        """The events that started it."""
        return [event.public() for event in run_events(self.runtime.store, self.id)]

    @property
    def started_at(self) -> datetime | None:
        """When its first turn began."""
        at = self._outcome().started_at
        return to_datetime(at) if at is not None else None

    @property
    def ended_at(self) -> datetime | None:
        """When it ended."""
        at = self._outcome().ended_at
        return to_datetime(at) if at is not None else None

    @property
    def parent(self) -> str | None:
        """The run that invoked it."""
        return self._outcome().parent

    @property
    def continued_from(self) -> str | None:
        """The run that it goes on for."""
        return self._outcome().continued_from

    @property
    def continued_as(self) -> str | None:
        """The run that goes on for it."""
        return self._outcome().continued_as

    def cancel(self, because: str = "cancelled by hand", *, terminate: bool = False) -> bool:
        """Cancel it, or the run that goes on for it, for a reason that it will show; False when that had ended.

        What sleeps, waits or is queued ends at once, a step at work stops the run when it is done; with `terminate`
        its process gets SIGTERM (prefork alone), also when the run was cancelled before.
        """
        return cancel(self.runtime, self.id, because, terminate=terminate)

    def rerun(self, from_step: str | None = None, input: Any = None) -> "RunHandle":
        """Start it again with the same event, under the flow's newest version; the new run's handle.

        `from_step` keeps the values of all steps recorded before that one; it and what follows run again. It is a
        step's id, or its exact key where the id was used several times (`id:0` is the first). `input` replaces the
        arguments of that step: a list (positional), a mapping (by keyword) or {"args": [...], "kwargs": {...}}.
        Raises UnknownRun, UnknownFlow, or RerunRefused: the run has not ended, the step is unknown or ambiguous.
        """
        return RunHandle(rerun(self.runtime, self.id, from_step, input), self.runtime)

    def get(self, timeout: float | None = None) -> Any:
        """Wait for its value, at most `timeout` seconds (None: without end).

        Of a run that went on as new it is the value of the last one. Raises RunFailed, RunCancelled (skipped ones too)
        or RunTimeout.
        """
        until = None if timeout is None else time.monotonic() + timeout
        pause = FIRST_LOOK
        last = self
        while True:
            found = last._looked_for()
            if found.continued_as is not None:
                following = last_of(self.runtime, last.id)
                # Retention may have forgotten a run of the line.
                last = RunHandle(following if following != last.id else found.continued_as, self.runtime)
                continue
            if found.ended_at is not None:
                return _value(found)
            if until is not None and time.monotonic() >= until:
                raise RunTimeout(f"run {last.id} is still {found.status} after {timeout} s; it goes on")
            time.sleep(pause if until is None else min(pause, max(0.0, until - time.monotonic())))
            pause = min(pause * 1.5, SLOWEST_LOOK)


def _value(found: Outcome) -> Any:
    if found.status == Status.COMPLETED:
        return read_output(found.status, found.output)
    if found.status == Status.FAILED:
        failure = read_failure(found.error)
        raise RunFailed(found.id, failure.name, failure.message, failure.stack, failure.step_id)
    raise RunCancelled(found.id, found.reason or found.status)


@dataclass(frozen=True, slots=True)
class ReplayHandle:
    """One replay, read anew at each access. Raises RerunRefused when there is none of that id."""

    id: str
    runtime: Runtime

    def _row(self) -> ReplayRow:
        with self.runtime.store.connection() as connection:
            return known_replay(connection, self.id)

    @property
    def flow(self) -> str:
        """The flow whose runs it starts again."""
        return self._row().flow

    @property
    def total(self) -> int:
        """How many runs it was to start when it was made."""
        return self._row().total

    @property
    def done(self) -> int:
        """How many it has started."""
        return self._row().done

    @property
    def runs(self) -> dict[Status, int]:
        """How many of the runs that it started stand where."""
        return {Status(status): count for status, count in count_replayed(self.runtime.store, self.id).items()}

    @property
    def started_at(self) -> datetime:
        """When it was made."""
        return to_datetime(self._row().started_at)

    @property
    def ended_at(self) -> datetime | None:
        """When it had started the last one or was cancelled; its runs may go on."""
        at = self._row().ended_at
        return to_datetime(at) if at is not None else None

    @property
    def cancelled(self) -> str | None:
        """Why it was cancelled, None when it was not."""
        return read_selection(self._row().selection).cancelled

    def cancel(self, because: str = "cancelled by hand") -> bool:
        """Start no more runs; those that it started go on. False when it had ended."""
        return stop_replay(self.runtime, self.id, because)
