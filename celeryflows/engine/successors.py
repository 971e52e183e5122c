"""Successors: a run ends as completed and another of its flow goes on, in one transaction."""

from dataclasses import dataclass, replace
from typing import Any

from celeryflows.engine import telling
from celeryflows.engine.admission import add_successor
from celeryflows.engine.conclusion import check_own_end
from celeryflows.engine.debts import pay
from celeryflows.engine.endings import continued_event, told
from celeryflows.engine.finish import cancel, route_ended
from celeryflows.engine.gates import heir
from celeryflows.engine.leaving import go_out, send_off, settle, written_before
from celeryflows.engine.passage import Passage
from celeryflows.engine.recording import Recorder
from celeryflows.engine.runtime import Runtime
from celeryflows.engine.starting import Call, call_event, plan
from celeryflows.model.events import FLOW_INVOKED, RESERVED, RUN_COMPLETED, Event, StoredEvent
from celeryflows.model.runs import NewRun, Status
from celeryflows.store.connection import Connection


@dataclass(frozen=True, slots=True)
class Successor:
    """The run that goes on, and its event."""

    run: NewRun
    event: StoredEvent


def plan_successor(runtime: Runtime, recorder: Recorder, data: Any) -> Successor:
    """A run of the same flow, of its newest version, with the data as `.delay()` takes it."""
    claim, connection = recorder.claim, recorder.connection
    event = call_event(() if data is None else (data,), {})
    if event.name == FLOW_INVOKED and not claim.event.name.startswith(RESERVED):
        # The handler asks its event for the same things, and gets the same registered model.
        event = Event(claim.event.name, event.data, v=claim.event.v)
    run, stored = plan(runtime, Call(claim.flow, event), connection)
    newest = connection.repeat(lambda: runtime.catalog.read(connection)).flows.get(claim.flow)
    return Successor(run if newest is None else replace(run, version=newest.version), stored)


def continue_as(runtime: Runtime, recorder: Recorder, successor: Successor) -> str:
    """running -> completed, and its successor starts; the successor's id."""
    claim, connection = recorder.claim, recorder.connection
    # Before the commit: the successor's end may be told right after it.
    run = replace(successor.run, message=runtime.dispatcher.run_continues(claim.run_id, claim.message))
    event = continued_event(runtime, claim, run.id)
    listened = connection.repeat(lambda: told(runtime, connection, RUN_COMPLETED))
    flow = runtime.catalog.latest.flows.get(claim.flow)
    holds_singleton = flow is not None and flow.limits.singleton is not None

    def work(tx: Connection, passage: Passage | None) -> None:
        nonlocal run
        if holds_singleton:
            tx.singletons.pass_on(claim.run_id, run.id)
        run = replace(run, place=heir(runtime, tx, claim, run, successor.event, passage))
        link = tx.links.continue_as(claim, run.id)
        if link is None:
            written_before(passage, check_own_end(tx, claim))
            return
        if recorder.has_branches:
            tx.branches.cancel_below(claim.run_id, "")
        tx.waits.close(claim.run_id)
        tx.events.add_private(successor.event)
        add_successor(runtime, tx, run, successor.event, link)
        if holds_singleton:
            # Who replaced it may be dead before its cancel; the row is ours, so what it wrote there is seen.
            tx.singletons.mark_next(claim.run_id, run.id)
        if listened:
            tx.events.add_unrouted([event])

    go_out(runtime, connection, claim, work)
    if claim.gates and recorder.has_branches:
        settle(runtime, [claim.run_id])
    telling.completed(claim, recorder.now(), "null")
    telling.routed([successor.event], [run])
    _send_on(runtime, run)
    if listened:
        route_ended(runtime, event)
    return run.id


def _send_on(runtime: Runtime, run: NewRun) -> None:
    if run.status is Status.QUEUED:
        send_off(runtime, [replace(run.delivery, at_door=not run.may_start)])
    elif run.status is Status.SKIPPED:
        pay(runtime, run.id, cancel)
