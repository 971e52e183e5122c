"""Reruns: a new run with the same event, from the start or from a step whose memos before it are kept."""

import json
from typing import Any

from celeryflows.codec import dumps
from celeryflows.engine import telling
from celeryflows.engine.admission import guard_again
from celeryflows.engine.leaving import send_off
from celeryflows.engine.runtime import Runtime
from celeryflows.errors import RerunRefused, UnknownEvent, UnknownFlow, UnknownRun
from celeryflows.ids import derived_id, new_id
from celeryflows.model.reruns import CALLS, StepInput, find_step, first_member, kept_steps, read_input
from celeryflows.model.runs import ENDED, FIRST, Delivery, Status
from celeryflows.store.connection import Connection
from celeryflows.store.reruns import NewRerun, Original

# Callbacks and the place in a canvas were the old run's own: they were told already.
TOLD = frozenset(
    [
        "link",
        "link_error",
        "chord",
        "group_id",
        "group_index",
        "root_id",
        "parent_id",
        "chain",
        "reply_to",
        "stamped_headers",
    ]
)


def rerun(runtime: Runtime, run_id: str, from_step: str | None = None, input: Any = None) -> str:
    """Start an ended run again under its flow's newest version; the new run's id.

    Raises UnknownRun, UnknownFlow, or RerunRefused: a run under way, an unknown or ambiguous step, bad input.
    """
    if input is not None and from_step is None:
        raise RerunRefused("input belongs to a step: name it by from_step. For other event data, send a new event.")
    edited = None if input is None else read_input(input)
    new = new_id()

    def work(tx: Connection) -> NewRerun:
        original = _ended(runtime, tx, run_id)
        version = _startable(runtime, tx, original.flow)
        run = NewRerun(new, original.flow, version, original.event_id, run_id, routes(original.message))
        tx.reruns.add([run])
        guard_again(runtime, tx, [run])
        if original.batch is not None:
            tx.batches.copy(run_id, new)
        if from_step is not None:
            _keep(tx, run_id, new, from_step, edited)
        return run

    return _sent(runtime, runtime.store.transact(work))


def replay_event(runtime: Runtime, event_id: str, flow: str) -> str:
    """Start one flow with a stored event, whatever its triggers say and whatever the event started before.

    Raises UnknownEvent, UnknownFlow, or RerunRefused for a flow that is paused.
    """
    new = new_id()

    def work(tx: Connection) -> NewRerun:
        if tx.events.get(event_id) is None:
            raise UnknownEvent(f"No event {event_id!r} in the store {runtime.store.shown_url()}.")
        run = NewRerun(new, flow, _startable(runtime, tx, flow), event_id, None, None)
        tx.reruns.add([run])
        guard_again(runtime, tx, [run])
        return run

    return _sent(runtime, runtime.store.transact(work))


def _sent(runtime: Runtime, run: NewRerun) -> str:
    send_off(runtime, [delivery_of(runtime, run)])
    telling.queued([(run.id, run.flow, run.event_id, run.version)])
    return run.id


def delivery_of(runtime: Runtime, run: NewRerun) -> Delivery:
    """Its message."""
    return Delivery(run.id, run.flow, run.message, at_door=runtime.catalog.latest.has_gates(run.flow))


def routes(message: str | None) -> str | None:
    """What a rerun keeps of the options that its original was called with."""
    kept = {name: value for name, value in json.loads(message or "{}").items() if name not in TOLD}
    if FIRST in (headers := kept.get("headers") or {}):
        kept["headers"] = {name: value for name, value in headers.items() if name != FIRST}
    return json.dumps(kept) if kept else None


def current_version(runtime: Runtime, connection: Connection, flow: str) -> str | None:
    """The version that runs of the flow start under now. Raises UnknownFlow."""
    known = runtime.catalog.read(connection).flows
    if flow in known:
        return known[flow].version
    if flow in runtime.flows:
        return runtime.flows[flow].definition.version
    names = ", ".join(sorted({*known, *runtime.flows})) or "none yet"
    raise UnknownFlow(f"No flow {flow!r}. Known: {names}. Is its module imported by the worker?")


def _startable(runtime: Runtime, tx: Connection, flow: str) -> str | None:
    version = current_version(runtime, tx, flow)
    if tx.replays.is_paused(flow):
        raise RerunRefused(f"The flow {flow!r} is paused. Resume it first: flows.resume({flow!r})")
    return version


def _ended(runtime: Runtime, tx: Connection, run_id: str) -> Original:
    original = tx.reruns.original(run_id)
    if original is None:
        raise UnknownRun(f"No run {run_id!r} in the store {runtime.store.shown_url()}.")
    if Status(original.status) not in ENDED:
        raise RerunRefused(
            f"Run {run_id} is {original.status}: its steps would be done twice at once. Cancel it first, or wait until "
            "it has ended."
        )
    return original


def _keep(tx: Connection, origin: str, new: str, from_step: str, edited: StepInput | None) -> None:
    """The memos of all that was recorded before the step; what its wait was answered by belongs to a memo."""
    recorded, branches = tx.reruns.recorded(origin), tx.reruns.branches(origin)
    by_key = {step.key: step for step in recorded}
    canvas = None if from_step in by_key else first_member(from_step, recorded)
    start = by_key[canvas or find_step(from_step, list(by_key), [branch.path for branch in branches])]
    keys = kept_steps(recorded, start.key, branches, whole=canvas is not None)
    waits = [(key, derived_id("wait", new, key)) for key in keys if by_key[key].wait is not None]
    tx.reruns.copy(origin, new, keys, waits)
    if edited is not None:
        if start.kind not in CALLS:
            raise RerunRefused(f"step {start.key!r} is a {start.kind}: only a step that calls a function takes input.")
        tx.reruns.put_input(origin, new, start.key, dumps(edited.json(), what=f"input of step {start.key!r}"))
