"""A run's handle: how it stands, its value, and what an operator may do with it."""

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from celeryflows.durations import to_datetime
from celeryflows.engine.failures import read_failure
from celeryflows.engine.finish import cancel, read_output
from celeryflows.engine.runtime import Runtime
from celeryflows.errors import RunCancelled, RunFailed, RunTimeout, UnknownRun
from celeryflows.model.events import Event
from celeryflows.model.runs import Status
from celeryflows.model.steps import Failure
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

    def cancel(self, because: str = "cancelled by hand") -> bool:
        """Cancel it; False when it had ended."""
        return cancel(self.runtime, self.id, because)

    def get(self, timeout: float | None = None) -> Any:
        """Wait for its value, at most `timeout` seconds (None: without end).

        Raises RunFailed, RunCancelled (skipped ones too) or RunTimeout.
        """
        until = None if timeout is None else time.monotonic() + timeout
        pause = FIRST_LOOK
        while True:
            found = self._outcome()
            if found.ended_at is not None:
                return _value(found)
            if until is not None and time.monotonic() >= until:
                raise RunTimeout(f"run {self.id} is still {found.status} after {timeout} s; it goes on")
            time.sleep(pause if until is None else min(pause, max(0.0, until - time.monotonic())))
            pause = min(pause * 1.5, SLOWEST_LOOK)


def _value(found: Outcome) -> Any:
    if found.status == Status.COMPLETED:
        return read_output(found.status, found.output)
    if found.status == Status.FAILED:
        failure = read_failure(found.error)
        raise RunFailed(found.id, failure.name, failure.message, failure.stack, failure.step_id)
    raise RunCancelled(found.id, found.reason or found.status)
