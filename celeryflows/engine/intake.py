"""Intake: an event is checked, named and sized before anything opens a transaction."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from celeryflows.codec import event_json
from celeryflows.durations import from_datetime
from celeryflows.engine.aftermath import after_the_callers
from celeryflows.engine.callers import CallersTransaction
from celeryflows.engine.routing import deliver, route_stored
from celeryflows.engine.runtime import Runtime
from celeryflows.errors import BoundExceeded, InvalidEvent
from celeryflows.ids import new_id
from celeryflows.middleware import sent
from celeryflows.model.events import Event, StoredEvent, check_id, check_name, check_ts
from celeryflows.store.outbox import write_outbox

V_BOUND = 256


def accept(runtime: Runtime, events: Sequence[Event], ids: Iterable[str] | None = None) -> list[StoredEvent]:
    """Check a list of events; the whole list is refused for one that is bad.

    `ids` are our ids, for senders that must be able to send the same list again.
    Raises InvalidEvent with the index of the bad one, BoundExceeded for a list that is too long.
    """
    if len(events) > runtime.settings.max_events:
        raise BoundExceeded(
            "events in one send",
            runtime.settings.max_events,
            len(events),
            "Send them in several lists (flows_max_events).",
        )
    if runtime.middleware:
        events = [sent(runtime.middleware, event) for event in events]
    chosen = iter(ids) if ids is not None else None
    now = runtime.clock.now()
    return [_accept(runtime, event, i, next(chosen) if chosen else new_id(), now) for i, event in enumerate(events)]


def _accept(runtime: Runtime, event: Event, index: int, event_id: str, now: int) -> StoredEvent:
    if not isinstance(event, Event):
        raise InvalidEvent(f"send takes Event(...) or a list of them, got {type(event).__name__}", index)
    name = check_name(event.name, index)
    ts = check_ts(event.ts, index)
    text, data = checked_data(runtime, event, index)
    return StoredEvent(
        id=event_id,
        ext_id=check_id(event.id, index),
        name=name,
        text=text,
        data=data,
        ts=now if ts is None else from_datetime(ts),
        v=_check_v(event.v, index),
    )


def checked_data(runtime: Runtime, event: Event, index: int = 0) -> tuple[str, dict[str, Any]]:
    """The event's data as text and as plain JSON, within the bound and by its registered schema."""
    text, data = event_json(runtime.schemas.check(event, index), index=index)
    most = runtime.settings.max_event_bytes
    # Four bytes a character at most: short texts need no counting.
    if len(text) * 4 > most and (size := len(text.encode())) > most:
        raise InvalidEvent(
            f"Event is over the max size: Max {most} bytes / Size {size} bytes. Store large data elsewhere and send "
            "its key, or raise flows_max_event_bytes.",
            index,
        )
    return text, data


def _check_v(value: object, index: int) -> str | None:
    if value is None or (isinstance(value, str) and len(value) <= V_BOUND and "\0" not in value):
        return value
    raise InvalidEvent(f"event v must be a text of at most {V_BOUND} characters, got {value!r:.60}", index)


def send(runtime: Runtime, events: Sequence[Event], ids: Iterable[str] | None = None) -> list[str]:
    """Store and route events in one transaction; when this returns, every effect of them is committed.

    Inside a transaction of the caller's own they belong to it, and are routed after its commit.
    `ids` are our ids, those that the same list always has: sent again under them it changes nothing.
    Returns our ids, in order. Raises InvalidEvent (nothing is stored) or StoreUnavailable (send again).
    """
    stored = accept(runtime, events, ids)
    around = runtime.around if stored else None
    if around is not None:
        _send_around(runtime, stored, around)
    elif stored:
        deliver(runtime, stored, may_be_known=ids is not None)
    return [event.id for event in stored]


def _send_around(runtime: Runtime, stored: Sequence[StoredEvent], around: CallersTransaction) -> None:
    if not around.is_on_the_store:
        return around.after_commit(lambda: deliver(runtime, stored))
    with runtime.store.connection() as connection:
        runtime.catalog.recent(connection, runtime.clock.monotonic())
    with around.verbs() as tx:
        tx.events.add_unrouted(stored)
    return around.after_commit(after_the_callers(lambda: _route_all(runtime, [event.id for event in stored])))


def send_within(
    runtime: Runtime, events: Sequence[Event], transaction: Any, *, declare: Callable[[], object]
) -> list[str]:
    """Write events in the caller's own transaction; they are routed after its commit, and gone when it rolls back.

    `declare` tells the store the flows that this process knows, before anything is routed.
    """
    stored = accept(runtime, events)
    ids = [event.id for event in stored]
    if not runtime.store.dialect.has_one_writer:
        declare()
    if stored:
        with runtime.store.connection() as connection:
            runtime.catalog.recent(connection, runtime.clock.monotonic())

        def route() -> None:
            # Where there is one writer, it was the caller's own transaction until now.
            declare()
            _route_all(runtime, ids)

        write_outbox(runtime.store, transaction, stored, after_commit=route, instead=lambda: deliver(runtime, stored))
    return ids


def _route_all(runtime: Runtime, ids: Sequence[str]) -> None:
    for event_id in ids:
        route_stored(runtime, event_id)
