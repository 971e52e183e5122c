"""What happened, told by signals after its commit. Each asks first whether anybody listens: else it costs nothing."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

from blinker import NamedSignal

from celeryflows.codec import loads
from celeryflows.durations import to_datetime
from celeryflows.engine.failures import failure_of, read_failure
from celeryflows.model.events import StoredEvent
from celeryflows.model.runs import NewRun, Reached, Status
from celeryflows.model.steps import Kind, State
from celeryflows.signals import (
    EventNews,
    LimitNews,
    RunNews,
    StepNews,
    event_received,
    limit_reached,
    run_cancelled,
    run_completed,
    run_failed,
    run_queued,
    run_skipped,
    run_started,
    run_suspended,
    step_completed,
    step_failed,
    step_started,
    tell,
)
from celeryflows.store.runs import CancelledRow, Claim, Outcome
from celeryflows.store.steps import StepRow


def routed(events: Iterable[StoredEvent], runs: Sequence[NewRun]) -> None:
    """Events were stored and routed, and started these runs."""
    if event_received.receivers:
        for event in events:
            _received(event)
    if runs and (run_queued.receivers or run_skipped.receivers):
        for run in runs:
            if run.status is not Status.SCHEDULED:
                _made(run)
    if limit_reached.receivers:
        for run in runs:
            if run.reached is not None:
                _limited(run, run.reached)


def _received(event: StoredEvent) -> None:
    tell(event_received, event.name, event=lambda: EventNews(event.id, event.public()))


def _limited(run: NewRun, reached: Reached) -> None:
    effect = "skipped" if run.status is Status.SKIPPED else "held"
    news = LimitNews(run.id, run.flow, reached.limit, reached.key, effect)
    tell(limit_reached, run.flow, limit=lambda: news)


def _made(run: NewRun) -> None:
    signal = run_skipped if run.status is Status.SKIPPED else run_queued
    news = RunNews(run.id, run.flow, run.event_id, version=run.version, reason=run.reason)
    _ready(signal, news)


def _ready(signal: NamedSignal, news: RunNews) -> None:
    tell(signal, news.flow, run=lambda: news)


def queued(runs: Iterable[tuple[str, str, str, str | None]]) -> None:
    """The moment of scheduled runs has come: id, flow, event id, version of each."""
    for run_id, flow, event_id, version in runs:
        _ready(run_queued, RunNews(run_id, flow, event_id, version=version))


def claimed(claim: Claim) -> None:
    """A turn begins; the first one starts the run."""
    if claim.turn == 1 and run_started.receivers:
        tell(run_started, claim.flow, run=lambda: _news(claim, claim.started_at))


def suspended(claim: Claim, at: int, wake: int | None, error: BaseException | None = None) -> None:
    """The run sleeps, waits or backs off."""
    if run_suspended.receivers:
        failure = failure_of(error) if error is not None else None
        wake_at = to_datetime(wake) if wake is not None else None
        tell(run_suspended, claim.flow, run=lambda: _news(claim, at, wake_at=wake_at, error=failure))


def completed(claim: Claim, at: int, output: str) -> None:
    """The run has a value."""
    if run_completed.receivers:
        tell(run_completed, claim.flow, run=lambda: _news(claim, at, output=loads(output)))


def failed(claim: Claim, at: int, error: str | None) -> None:
    """The run's attempts are spent."""
    if run_failed.receivers:
        tell(run_failed, claim.flow, run=lambda: _news(claim, at, error=read_failure(error)))


def lost(run: Outcome, error: str) -> None:
    """The run failed outside a turn."""
    if run_failed.receivers:
        tell(
            run_failed,
            run.flow,
            run=lambda: RunNews(run.id, run.flow, run.event_id, run.turn, error=read_failure(error)),
        )


def cancelled(run: CancelledRow, reason: str) -> None:
    """The run was cancelled."""
    if run_cancelled.receivers:
        tell(run_cancelled, run.flow, run=lambda: RunNews(run.id, run.flow, run.event_id, run.turn, reason=reason))


def began(claim: Claim, step_id: str, kind: Kind, attempt: int) -> None:
    """An attempt of a step begins."""
    if step_started.receivers:
        tell(step_started, claim.flow, step=lambda: StepNews(claim.run_id, claim.flow, step_id, kind, attempt))


def recorded(claim: Claim, row: StepRow) -> None:
    """An attempt of a step is committed: its value or its error."""
    if row.state == State.DONE:
        if step_completed.receivers:
            tell(step_completed, claim.flow, step=lambda: _step(claim, row))
    elif row.state in (State.FAILED, State.RETRYING) and step_failed.receivers:
        tell(step_failed, claim.flow, step=lambda: _step(claim, row))


def _step(claim: Claim, row: StepRow) -> StepNews:
    done = row.state == State.DONE
    return StepNews(
        run_id=claim.run_id,
        flow=claim.flow,
        step_id=row.key,
        kind=row.kind,
        attempt=max(0, row.attempts - 1),
        duration=None if row.took is None else timedelta(microseconds=row.took),
        value=loads(row.value) if done and row.value is not None else None,
        error=None if done else read_failure(row.value),
        retry_at=to_datetime(row.due) if row.state == State.RETRYING and row.due is not None else None,
    )


def _news(claim: Claim, at: int, **more: object) -> RunNews:
    fixed: Mapping[str, object] = {
        "run_id": claim.run_id,
        "flow": claim.flow,
        "event_id": claim.event.id,
        "turn": claim.turn,
        "attempt": claim.attempt,
        "version": claim.version,
        "duration": timedelta(microseconds=max(0, at - claim.started_at)),
    }
    return RunNews(**fixed, **more)  # type: ignore[arg-type]
