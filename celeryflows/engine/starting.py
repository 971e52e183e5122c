"""Starting a run by its flow's name: `.delay()`, the command line, a message from a plain Celery client."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from celeryflows.durations import from_datetime
from celeryflows.engine import telling
from celeryflows.engine.admission import Admitted, admit, options_elsewhere
from celeryflows.engine.aftermath import after_the_callers
from celeryflows.engine.callers import CallersTransaction
from celeryflows.engine.intake import checked_data
from celeryflows.engine.routing import follow
from celeryflows.engine.runtime import Runtime
from celeryflows.engine.starts import a_start, joined_reason
from celeryflows.errors import InvalidEvent, UnknownFlow
from celeryflows.ids import derived_id, new_id
from celeryflows.middleware import sent
from celeryflows.model.events import FLOW_INVOKED, Event, StoredEvent, check_id, check_name, check_ts
from celeryflows.model.flows import FlowDefinition
from celeryflows.model.runs import NewRun, Status
from celeryflows.store.connection import Connection

RUN_ID_BOUND = 256


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a flow. Times in microseconds; `message` holds the caller's own sending options as JSON."""

    flow: str
    event: Event
    run_id: str | None = None
    start_at: int | None = None
    expires_at: int | None = None
    message: str | None = None


def call_event(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Event:
    """What a call's arguments mean: an Event, a mapping or model, any other value as `data["value"]`; kwargs on top."""
    if len(args) > 1:
        raise TypeError(f"a flow takes one mapping, model or Event and keyword arguments; got {len(args)} arguments")
    first = args[0] if args else None
    if isinstance(first, Event):
        if kwargs:
            raise TypeError("a flow called with an Event takes no keyword arguments")
        return first
    if first is None or isinstance(first, Mapping):
        return Event(FLOW_INVOKED, {**(first or {}), **kwargs})
    if hasattr(type(first), "model_dump"):
        return Event(FLOW_INVOKED, {**first.model_dump(mode="json"), **kwargs} if kwargs else first)
    return Event(FLOW_INVOKED, {"value": first, **kwargs})


def start(runtime: Runtime, call: Call) -> str:
    """Store the call's event and its run, then send the message; the run's id. The same id twice is one run.

    Inside a transaction of the caller's own the call belongs to it, and starts its run after the commit.
    Raises UnknownFlow, InvalidEvent or StoreUnavailable; nothing is stored then.
    """
    run, stored = plan(runtime, call)
    around = runtime.around
    if around is not None:
        return _start_around(runtime, run, stored, around)
    written = _write(runtime, run, stored)
    _send(runtime, written)
    return written.joined or written.run.id


def _start_around(runtime: Runtime, run: NewRun, stored: StoredEvent, around: CallersTransaction) -> str:
    if not around.is_on_the_store:
        around.after_commit(lambda: _started(runtime, _write(runtime, run, stored)))
        return run.id
    with around.verbs() as tx:
        tx.calls.add(run, stored)
    around.after_commit(after_the_callers(lambda: start_stored(runtime, run.id)))
    return run.id


def start_stored(runtime: Runtime, run_id: str) -> bool:
    """Start a call that was stored in a transaction of its caller's; False when another did, or it is gone."""
    taken: list[Written] = []

    def work(tx: Connection) -> None:
        found = tx.calls.take(run_id)
        # Gone at a second try, it is our own commit whose reply was lost.
        if found is not None:
            run, stored = _by_now(runtime, found[0]), found[1]
            taken[:] = [_written(run, stored, _admit(runtime, tx, run, stored))]

    runtime.store.transact(work)
    for written in taken:
        _started(runtime, written)
    return bool(taken)


def adopt(runtime: Runtime, call: Call) -> None:
    """Store the event and the run of a call whose message is here already."""
    written = _write(runtime, *plan(runtime, call))
    follow(runtime, written.admitted)
    _tell(runtime, written)
    _tell_joined(runtime, written)


@dataclass(frozen=True, slots=True)
class Written:
    """A call in the store. `is_new`: it was not there before, under the same id. `joined`: the run it ended up in."""

    run: NewRun
    event: StoredEvent
    is_new: bool
    admitted: Admitted

    @property
    def joined(self) -> str | None:
        """The run that it ended up in, where that is another."""
        return self.admitted.joined.get(self.run.id)


def _write(runtime: Runtime, run: NewRun, stored: StoredEvent) -> Written:
    admitted: Admitted | None = None

    def work(tx: Connection) -> None:
        nonlocal admitted
        admitted = _admit(runtime, tx, run, stored) or admitted

    runtime.store.transact(work)
    return _written(run, stored, admitted)


def _written(run: NewRun, stored: StoredEvent, admitted: Admitted | None) -> Written:
    runs = admitted.runs if admitted is not None else ()
    return Written(runs[0] if runs else run, stored, admitted is not None, admitted or Admitted())


def _admit(runtime: Runtime, tx: Connection, run: NewRun, stored: StoredEvent) -> Admitted | None:
    """None when it stands there already: our own commit whose reply was lost, or an earlier call under the same id."""
    version = tx.events.add_telling(stored)
    if version is None:
        return None
    catalog = runtime.catalog.read(tx, version)
    return admit(runtime, tx, catalog, [a_start(runtime, catalog, run, stored)])


def _by_now(runtime: Runtime, run: NewRun) -> NewRun:
    """A run whose time has come while its caller's transaction was open is not scheduled any more."""
    if run.wake_at is None or run.wake_at > runtime.clock.now():
        return run
    return replace(run, status=Status.QUEUED, wake_at=None)


def _started(runtime: Runtime, written: Written) -> None:
    """Of a call whose caller has its id since before: it may have ended up in another run."""
    _send(runtime, written)
    _tell_joined(runtime, written)


def _send(runtime: Runtime, written: Written) -> None:
    follow(runtime, written.admitted)
    if written.run.may_start and written.joined is None:
        runtime.dispatcher.send_runs([written.run.delivery])
    _tell(runtime, written)


def _tell_joined(runtime: Runtime, written: Written) -> None:
    if written.joined is not None and written.is_new:
        # The caller holds an id under which there is no run.
        runtime.dispatcher.run_cancelled(written.run.id, joined_reason(written.joined), written.run.message)


def _tell(runtime: Runtime, written: Written) -> None:
    run = written.run
    if run.status is Status.SKIPPED:
        runtime.dispatcher.run_cancelled(run.id, run.reason or "skipped", run.message)
    if written.is_new:
        telling.routed([written.event], written.admitted.runs)


def plan(runtime: Runtime, call: Call, connection: Connection | None = None) -> tuple[NewRun, StoredEvent]:
    """The run and the event of a call, checked but not stored. `connection`: one that the caller holds already."""
    run_id = _check_run_id(call.run_id) if call.run_id is not None else new_id()
    now = runtime.clock.now()
    stored = _event(runtime, call.event, run_id, now)
    flow = _definition(runtime, call.flow, connection)
    start_at = call.start_at if call.start_at is not None else stored.ts
    later = start_at > now
    run = NewRun(
        id=run_id,
        flow=call.flow,
        version=flow.version,
        status=Status.SCHEDULED if later else Status.QUEUED,
        event_id=stored.id,
        message=call.message or options_elsewhere(runtime, flow),
        wake_at=start_at if later else None,
        expires_at=call.expires_at,
        event_name=stored.name,
    )
    return run, stored


def _event(runtime: Runtime, event: Event, run_id: str, now: int) -> StoredEvent:
    event = sent(runtime.middleware, event)
    name = event.name if event.name == FLOW_INVOKED else check_name(event.name)
    text, data = checked_data(runtime, event)
    ts = check_ts(event.ts)
    at = now if ts is None else from_datetime(ts)
    return StoredEvent(derived_id("call", run_id), check_id(event.id), name, text, data, at, event.v)


def _definition(runtime: Runtime, flow: str, held: Connection | None) -> FlowDefinition:
    mine = runtime.flows.get(flow)
    if mine is not None:
        return mine.definition
    with nullcontext(held) if held is not None else runtime.store.connection() as connection:
        known = connection.repeat(lambda: runtime.catalog.read(connection)).flows
    if flow not in known:
        names = ", ".join(sorted({*known, *runtime.flows})) or "none yet"
        raise UnknownFlow(f"No flow {flow!r}. Known: {names}. Is its module imported by the worker?")
    return known[flow]


def _check_run_id(value: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= RUN_ID_BOUND or not value.isprintable():
        raise InvalidEvent(
            f"a run id (task_id) is a printable text of 1 to {RUN_ID_BOUND} characters, got {value!r:.80}"
        )
    return value
