"""Keeping the store's flows as the code declares them: by workers when they start, by senders for what is lacking."""

import json
from collections.abc import Sequence

from celeryflows.engine.runtime import Runtime
from celeryflows.flow_control.gates import gate_limits
from celeryflows.ids import derived_id
from celeryflows.model.flows import FlowDefinition, read_definition, trigger_json
from celeryflows.model.triggers import OnCron
from celeryflows.store.connection import Connection
from celeryflows.store.crons import CronRow


def release_of(flows: Sequence[FlowDefinition]) -> str:
    """Names all the flows of an app as they are declared now."""
    return derived_id(*(part for f in sorted(flows, key=lambda f: f.name) for part in (f.name, f.hash)))


def register_worker(runtime: Runtime) -> bool:
    """Declare this worker's flows, unless a newer release of the app is alive; True when they are the current ones.

    A release seen for the first time is the newest. An old worker that restarts during a deploy changes nothing; once
    no living worker runs the newest release, the old one counts again (a roll-back).
    """
    flows = _definitions(runtime)
    release = release_of(flows)

    def work(tx: Connection) -> bool:
        _lock_new_shapes(tx, flows)
        new = tx.flows.add_release(runtime.app, release)
        newest = tx.flows.newest_release(runtime.app)
        if not new and newest != release:
            if newest is not None and tx.workers.any_alive(runtime.app, newest, runtime.settings.dead_after):
                _declare(runtime, tx, _lacking(tx, flows))
                return False
            tx.flows.renew_release(runtime.app, release)
        if new or newest != release:
            # Only a release that becomes the newest removes: a sender may have declared flows of the next one already.
            _remove_others(runtime, tx, flows)
        _declare(runtime, tx, _changed(runtime, tx, flows))
        return True

    return runtime.store.transact(work)


def register_sender(runtime: Runtime) -> None:
    """Declare the flows that this process knows and the store lacks."""
    flows = _definitions(runtime)
    with runtime.store.connection() as connection:
        lacking = _lacking(connection, flows)
    if lacking:
        runtime.store.transact(lambda tx: _declare_lacking(runtime, tx, flows))


def _declare_lacking(runtime: Runtime, tx: Connection, flows: Sequence[FlowDefinition]) -> None:
    _lock_new_shapes(tx, flows)
    _declare(runtime, tx, _lacking(tx, flows))


def _lock_new_shapes(tx: Connection, flows: Sequence[FlowDefinition]) -> None:
    """What cancels by a path that nobody waited on before is made known while no event of its name is on its way: the
    runs that start then need no such lock. Names come first in the order of locks."""
    wanted = _shapes(flows)
    if wanted:
        known = tx.waits.shapes(name for name, _ in wanted)
        new = sorted({name for name, path in wanted if path not in known.get(name, ())})
        tx.locks.hold_names_and_stripes([], new, [])


def _shapes(flows: Sequence[FlowDefinition]) -> set[tuple[str, str]]:
    return {(one.event, one.path) for flow in flows for one in flow.cancel_on}


def _definitions(runtime: Runtime) -> list[FlowDefinition]:
    return [flow.definition for flow in runtime.flows.values()]


def _lacking(connection: Connection, flows: Sequence[FlowDefinition]) -> list[FlowDefinition]:
    known = {f.name for f in connection.flows.all()}
    return [f for f in flows if f.name not in known]


def _remove_others(runtime: Runtime, tx: Connection, flows: Sequence[FlowDefinition]) -> None:
    """What is not among the app's flows any more."""
    names = {f.name for f in flows}
    gone = [f.name for f in tx.flows.all() if f.app == runtime.app and f.removed_at is None and f.name not in names]
    if gone:
        tx.flows.touch()
        tx.flows.remove(gone)
        _limits_changed(runtime, tx, gone, ())
        for row in tx.crons.of(gone):
            tx.crons.remove(row.flow, row.trigger_no)


def _changed(runtime: Runtime, tx: Connection, flows: Sequence[FlowDefinition]) -> list[FlowDefinition]:
    stored = {f.name: f for f in tx.flows.all()}
    return [
        f
        for f in flows
        if (old := stored.get(f.name)) is None
        or old.hash != f.hash
        or old.removed_at is not None
        or old.app != runtime.app
    ]


def _declare(runtime: Runtime, tx: Connection, flows: Sequence[FlowDefinition]) -> None:
    if not flows:
        return
    tx.flows.touch()
    _limits_changed(runtime, tx, [f.name for f in flows], flows)
    tx.flows.put(runtime.app, flows)
    for name, path in sorted(_shapes(flows)):
        tx.waits.add_shape(name, path)
    now = runtime.clock.now()
    before = tx.crons.of([f.name for f in flows])
    after: set[tuple[str, int]] = set()
    for flow in flows:
        for number, cron in flow.crons:
            after.add((flow.name, number))
            text = cron_text(cron)
            tx.crons.put(CronRow(flow.name, number, derived_id(text), text, cron.schedule().next_after(now)))
    for row in before:
        if (row.flow, row.trigger_no) not in after:
            tx.crons.remove(row.flow, row.trigger_no)


def _limits_changed(runtime: Runtime, tx: Connection, names: Sequence[str], now: Sequence[FlowDefinition]) -> None:
    """Those who wait at limits that are raised, lowered or gone: the leader looks at their lines."""
    wanted = set(names)
    before = [read_definition(f.name, f.definition) for f in tx.flows.all() if f.name in wanted]
    limits = {limit.id for flow in (*before, *now) for limit in gate_limits(runtime.app, flow)}
    if limits:
        tx.gate_audit.mark(limits)
    throttled = [flow.name for flow in (*before, *now) if flow.limits.throttle is not None]
    if throttled:
        tx.throttles.look_again(throttled)


def cron_text(cron: OnCron) -> str:
    """A cron trigger as JSON."""
    return json.dumps(trigger_json(cron), sort_keys=True)
