"""A flow as a Celery task: how it is called, and how a delivery becomes a turn."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from celery import Celery, signals, states
from celery.exceptions import Ignore, Reject, TaskRevokedError
from celery.result import EagerResult
from kombu.utils import json

from celeryflows.celery_bridge.bundling import BUNDLED
from celeryflows.celery_bridge.declaration import Declared
from celeryflows.celery_bridge.dispatcher import HEADER, CeleryDispatcher
from celeryflows.celery_bridge.result import RunResult
from celeryflows.celery_bridge.result_writer import OF_REQUEST
from celeryflows.codec import loads
from celeryflows.durations import SECOND, from_datetime
from celeryflows.engine.failures import run_failed
from celeryflows.engine.runtime import Flow, Runtime
from celeryflows.engine.starting import Call, adopt, call_event, start
from celeryflows.engine.turn import TurnEnd, always, take_turn
from celeryflows.errors import StoreUnavailable
from celeryflows.model.events import Event
from celeryflows.model.runs import FIRST, Status

logger = logging.getLogger("celeryflows")

# A caller's own options of one call; they go with every message of the run.
KEPT = (
    "link", "link_error", "chord", "group_id", "group_index", "root_id", "parent_id", "chain", "reply_to", "shadow",
    "queue", "routing_key", "exchange", "priority", "time_limit", "soft_time_limit", "ignore_result", "stamped_headers",
    "headers",
)  # fmt: skip
DEFAULTS = {
    "acks_late": True,
    "reject_on_worker_lost": True,
    "typing": False,
    "shared": False,
    "is_flow": True,
    "Request": "celeryflows.celery_bridge.flow_request:FlowRequest",
}


EventOf = Callable[[tuple[Any, ...], Mapping[str, Any]], Event]


class TurnOver(Ignore):
    """Acked, its slot freed, no result and no callback: the run goes on by another message under the same id."""


@signals.task_postrun.connect(weak=False)
def forget_frames(retval: Any = None, **_: Any) -> None:
    """Celery's tracer and this exception hold each other, 0.1 MB each time, until a rare full collection."""
    if type(retval) is TurnOver:
        retval.__traceback__ = None


class Host(Protocol):
    """What a flow's task needs of its app's binding."""

    app: Celery

    @property
    def runtime(self) -> Runtime: ...
    @property
    def is_eager(self) -> bool: ...
    def sender(self) -> Runtime: ...
    def stopping(self) -> bool: ...
    def cancel(self, run_id: str, reason: str) -> bool: ...
    def run_eagerly(self, call: Call) -> TurnEnd: ...


def make_task(host: Host, declared: Declared, flow: Flow) -> Any:
    """Register the flow as a task of its app. The function is wrapped; the app's own Task base stays."""

    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.request.called_directly:
            raise TypeError(
                f"The flow {flow.name!r} is not called directly. Start it with "
                f"{flow.name.rpartition('.')[2]}.delay(...), or in a test with flows_tester.start(...)."
            )
        return take_delivery(host, self, args, kwargs)

    def apply_async(self: Any, args: Any = None, kwargs: Any = None, task_id: str | None = None, **options: Any) -> Any:
        if host.is_eager:
            return in_place(self.apply(args, kwargs, task_id=task_id, **options))
        runtime = host.sender() if flow.definition.cancel_on else host.runtime
        call = read_call(runtime, flow.name, call_event(tuple(args or ()), kwargs or {}), task_id, options)
        return RunResult(start(runtime, call), host.cancel, backend=self.backend, task_name=self.name, app=host.app)

    for name in ("__name__", "__qualname__", "__doc__", "__module__"):
        setattr(run, name, getattr(flow.handler, name, getattr(run, name)))
    # A lambda's name is no word; Celery writes a function of it.
    run.__name__ = run.__name__ if run.__name__.isidentifier() else "run"
    options = {**DEFAULTS, **declared.celery_options, "name": flow.name, "bind": True, "apply_async": apply_async}
    return host.app.task(**options)(run)


def read_call(runtime: Runtime, flow: str, event: Event, run_id: str | None, options: Mapping[str, Any]) -> Call:
    """Celery's calling options as a call: `countdown` and `eta` schedule the run, `expires` bounds its start."""
    now = runtime.clock.now()
    kept = {key: options[key] for key in KEPT if options.get(key) is not None}
    return Call(
        flow=flow,
        event=event,
        run_id=run_id,
        start_at=_moment(options.get("eta"), options.get("countdown"), now),
        expires_at=_moment_or_seconds(options.get("expires"), now),
        message=json.dumps(kept) if kept else None,
    )


def _moment(eta: Any, countdown: Any, now: int) -> int | None:
    if countdown is not None:
        return now + int(float(countdown) * SECOND)
    return None if eta is None else _moment_or_seconds(eta, now)


def _moment_or_seconds(value: Any, now: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, timedelta):
        return now + int(value.total_seconds() * SECOND)
    if isinstance(value, int | float):
        return now + int(value * SECOND)
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    # Celery reads a naive datetime as UTC.
    return from_datetime(value if value.tzinfo is not None else value.replace(tzinfo=UTC))


def take_delivery(
    host: Host, task: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], event_of: EventOf = call_event
) -> Any:
    """One message: take the run's next turn and tell Celery how it ended. `event_of`: what a call's arguments mean."""
    runtime, request = host.runtime, task.request
    header = getattr(request, HEADER, None)
    if isinstance(header, list):
        run_id, branch = header
        with _left_to_recovery():
            take_turn(runtime, run_id, _yields(host, task), branch=branch, may_carry=_may_carry(task))
        raise TurnOver
    if request.is_eager:
        end = host.run_eagerly(Call(task.name, event_of(args, kwargs), request.id))
    else:
        if not header:
            _adopt(runtime, task, event_of(args, kwargs))
        with _left_to_recovery():
            bundled = getattr(request, BUNDLED, None)
            end = take_turn(runtime, request.id, _yields(host, task), may_carry=_may_carry(task), bundled=bundled)
            if end.status is None and (request.delivery_info or {}).get("redelivered"):
                end = _ended_before(runtime, request.id)
    if end.continued_as is not None:
        raise TurnOver
    _tell_first(runtime, request, end)
    if end.status is Status.COMPLETED:
        return end.value
    if end.status is Status.FAILED and end.error is not None:
        raise end.error
    raise TurnOver


@contextmanager
def _left_to_recovery() -> Iterator[None]:
    """A store that stays away is no failure of the run, which has no result yet; recovery sends it again."""
    try:
        yield
    except StoreUnavailable as away:
        logger.error("a turn was left: %s", away)
        raise TurnOver from None


def _tell_first(runtime: Runtime, request: Any, end: TurnEnd) -> None:
    """Who holds the id of the first of a line of runs gets the last one's value."""
    first = getattr(request, FIRST, None)
    if not first or request.ignore_result or not isinstance(runtime.dispatcher, CeleryDispatcher):
        return
    if end.status is Status.COMPLETED:
        runtime.dispatcher.first_ended(first, end.value, states.SUCCESS)
    elif end.status is Status.FAILED:
        runtime.dispatcher.first_ended(first, end.error, states.FAILURE)


def in_place(result: Any) -> Any:
    """Celery's result of a call in eager mode: a run that was cancelled reads REVOKED, as it does elsewhere."""
    if result.state != states.IGNORED:
        return result
    return EagerResult(result.id, TaskRevokedError("cancelled"), states.REVOKED, name=result.name)


def _adopt(runtime: Runtime, task: Any, event: Event) -> None:
    """A message from a client without our extension: its arguments become the run's event, its id the run's."""
    request = task.request
    kept = {ours: value for theirs, ours in OF_REQUEST.items() if (value := getattr(request, theirs, None)) is not None}
    kept |= _way_it_came(request.delivery_info or {})
    try:
        adopt(runtime, Call(task.name, event, request.id, message=json.dumps(kept) if kept else None))
    except StoreUnavailable as away:
        # The call stands nowhere else yet; one that was acknowledged before cannot go back, and has to fail aloud.
        if not task.acks_late:
            raise
        logger.error("the call %s goes back to its queue: %s", request.id, away)
        raise Reject(str(away), requeue=True) from None


def _way_it_came(came: Mapping[str, Any]) -> dict[str, Any]:
    """For the run's later messages: its worker may serve no other queue. No exchange's name: the key is the queue's."""
    keys = {"exchange": "exchange", "routing_key": "routing_key"} if came.get("exchange") else {"routing_key": "queue"}
    keys["priority"] = "priority"
    return {ours: came[theirs] for theirs, ours in keys.items() if came.get(theirs) is not None}


def _yields(host: Host, task: Any) -> Callable[[], bool]:
    """A turn goes back to the queue when the worker stops, or past half of its time limit."""
    if not (limits := _limits(task)):
        return host.stopping
    until = time.monotonic() + min(limits) / 2
    return lambda: host.stopping() or time.monotonic() > until


def _may_carry(task: Any) -> Callable[[], bool]:
    """A branch gets its time limit, or nearly: early in a delivery it may be taken on, later it has its own."""
    if not (limits := _limits(task)):
        return always
    until = time.monotonic() + min(limits) / 20
    return lambda: time.monotonic() < until


def _limits(task: Any) -> list[float]:
    return [limit for limit in (*(task.request.timelimit or ()), task.time_limit, task.soft_time_limit) if limit]


def _ended_before(runtime: Runtime, run_id: str) -> TurnEnd:
    """A redelivered message of a run that ended: the worker died before Celery stored the result."""
    with runtime.store.connection() as connection:
        found = connection.runs.outcome(run_id)
    if found is not None and found.status == Status.COMPLETED and found.continued_as is None:
        return TurnEnd(Status.COMPLETED, loads(found.output) if found.output is not None else None)
    if found is not None and found.status == Status.FAILED:
        return TurnEnd(Status.FAILED, error=run_failed(run_id, found.error))
    return TurnEnd(None)
