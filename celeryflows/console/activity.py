"""What happens, as it happens: the difference between two looks at the store, as news for a terminal or a page."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from celeryflows.console.events import EventSummary, summary_of
from celeryflows.console.runs import RunSummary, StepSummary, run_summary, step_summary
from celeryflows.durations import SECOND, to_datetime
from celeryflows.engine.runtime import Runtime
from celeryflows.model.events import RESERVED
from celeryflows.model.runs import ENDED, Status
from celeryflows.model.steps import RESTING
from celeryflows.store.reports.activity import events_since, runs_since, steps_of
from celeryflows.store.reports.runs import RunView

# A commit may become visible after a later one; what was told is remembered for longer than that.
OVERLAP = 10 * SECOND


class About(StrEnum):
    """What a piece of news is about."""

    EVENT = "event"
    START = "start"
    STEP = "step"
    END = "end"


@dataclass(frozen=True, slots=True)
class News:
    """One thing that happened at `at`: an `event`, a `run` that started or ended, or a `step` of a `run`."""

    at: datetime
    about: About
    event: EventSummary | None = None
    run: RunSummary | None = None
    step: StepSummary | None = None


@dataclass(slots=True)
class Activity:
    """Follows a store. The first look tells nothing: it only remembers how things stand."""

    runtime: Runtime
    _since: int | None = None
    _events: dict[str, int] = field(default_factory=dict)
    _runs: dict[str, Status] = field(default_factory=dict)
    _steps: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)

    def news(self) -> list[News]:
        """What happened since the look before, in order. Raises StoreUnavailable."""
        store = self.runtime.store
        with store.connection() as connection:
            now = connection.now()
        # From the look before on, however long ago that was.
        first, since = self._since is None, (now if self._since is None else self._since) - OVERLAP
        self._since = now
        found = [*self._new_events(since), *self._new_runs(since, now)]
        return [] if first else sorted(found, key=lambda news: (news.at, news.about is About.END))

    def _new_events(self, since: int) -> Iterator[News]:
        for row in events_since(self.runtime.store, since):
            if row.id not in self._events and not _is_echo(row.name):
                yield News(to_datetime(row.stored_at), About.EVENT, event=summary_of(row))
            self._events[row.id] = row.stored_at
        self._events = {key: at for key, at in self._events.items() if at >= since - OVERLAP}

    def _new_runs(self, since: int, now: int) -> Iterator[News]:
        open_before = [run_id for run_id, status in self._runs.items() if status not in ENDED]
        rows = {row.id: row for row in runs_since(self.runtime.store, since, open_before)}
        # Steps are read after their runs: the end of a run is never told before its last step.
        changed = {row.id: row for row in rows.values() if self._is_news(row)}
        steps = steps_of(self.runtime.store, sorted(changed))
        for row in changed.values():
            yield from self._moves(row)
        for found in steps:
            row = rows[found.run_id]
            step = step_summary(found.step, row.ended_at, now)
            if self._is_new_step(row, step):
                yield News(_moment_of(step), About.STEP, run=run_summary(row), step=step)
        self._forget(rows, since)

    def _is_news(self, row: RunView) -> bool:
        """Ended runs that were told are done with; all others may have new steps."""
        return self._runs.get(row.id) not in ENDED

    def _moves(self, row: RunView) -> Iterator[News]:
        status, before = Status(row.status), self._runs.get(row.id)
        self._runs[row.id] = status
        if status is before:
            return
        run = run_summary(row)
        if before is None and status is not Status.SKIPPED:
            yield News(run.created_at, About.START, run=run)
        if status in ENDED:
            yield News(run.ended_at or run.created_at, About.END, run=run)

    def _is_new_step(self, row: RunView, step: StepSummary) -> bool:
        standing, key = (step.standing, step.attempts), (row.id, step.id)
        before, self._steps[key] = self._steps.get(key), standing
        # That a run closed what it still waited for is told by its end.
        return before != standing and step.standing != "closed"

    def _forget(self, rows: Mapping[str, RunView], since: int) -> None:
        gone = {run_id for run_id, status in self._runs.items() if status in ENDED and run_id not in rows}
        for run_id in gone:
            del self._runs[run_id]
        self._steps = {key: value for key, value in self._steps.items() if key[0] in self._runs}


def _is_echo(name: str) -> bool:
    """Our own events: their runs tell of them."""
    return name.startswith(RESERVED)


def _moment_of(step: StepSummary) -> datetime:
    if step.kind in RESTING and step.until is not None:
        return step.until
    return step.recorded_at or step.began
