"""The ends of runs of which nobody listens: one commit. The next in line at a limit starts with it, and the next run of
a bundle is claimed with it."""

from celeryflows.engine.catalog import Snapshot
from celeryflows.engine.leaving import NotMine, go_out, pass_out, written_before
from celeryflows.engine.passage import Passage
from celeryflows.engine.recording import Recorder
from celeryflows.engine.runtime import Runtime
from celeryflows.model.events import RUN_COMPLETED
from celeryflows.model.runs import Delivery
from celeryflows.store.connection import Connection
from celeryflows.store.executor import Row
from celeryflows.store.runs import Claim


def end_unheard(runtime: Runtime, recorder: Recorder, output: str) -> str | None:
    """What is owed by the end; None where it has to be heard, or the turn is past."""
    claim, connection, carrier = recorder.claim, recorder.connection, recorder.carrier
    snapshot = runtime.catalog.recent(connection, runtime.clock.monotonic())
    if snapshot.tells(RUN_COMPLETED):
        return None
    if claim.gates:
        return _end_limited(runtime, connection, claim, output, snapshot)
    bundled = carrier.bundled if carrier is not None else None
    may_go_on = connection.bundles.claims_with_an_end and not recorder.must_yield()
    next = bundled.after(claim.run_id) if bundled is not None and may_go_on else None
    if bundled is None or next is None:
        return connection.runs.finish_unheard(claim, output, snapshot.version)
    rows: list[Row] = []
    asked = runtime.clock.monotonic()
    try:
        owed, rows = connection.bundles.finish_and_claim(claim, output, snapshot.version, next)
    finally:
        bundled.follow(rows, asked)
    return owed


def _end_limited(runtime: Runtime, connection: Connection, claim: Claim, output: str, snapshot: Snapshot) -> str | None:
    number = snapshot.gates.number(claim.gates[0])
    if len(claim.gates) > 1 or claim.numbers[0] is None or number is None or not connection.dialect.has_writing_ctes:
        return _end(runtime, connection, claim, output, snapshot.version)
    handed: list[Delivery] = []

    def work(tx: Connection) -> str | None:
        tx.exits.share(claim.gates[0])
        found = tx.exits.end(claim, number, output, snapshot.version)
        if found.is_lowered:
            # To hold the gate alone beside others who share it with us, and would too, were a deadlock.
            raise NotMine
        if not found.has_line:
            return found.owed
        passage = Passage(tx, snapshot.gates, shared=claim.gates)
        passage.leave(claim.unit, claim.gates, claim.numbers)
        pass_out(passage, claim.unit)
        owed = tx.runs.finish_unheard(claim, output, snapshot.version)
        if owed is None:
            raise NotMine
        handed[:] = passage.deliveries
        return owed

    owed: str | None
    try:
        owed = connection.transact(work)
    except NotMine:
        owed = _end(runtime, connection, claim, output, snapshot.version)
    if handed:
        # Those of a try whose reply was lost, too: one too many claims nothing.
        runtime.dispatcher.send_runs(handed)
    return owed


def _end(runtime: Runtime, connection: Connection, claim: Claim, output: str, version: str) -> str | None:
    """By all gates, whatever stands there."""

    def work(tx: Connection, passage: Passage | None) -> str | None:
        pass_out(passage, claim.unit)
        return tx.runs.finish_unheard(claim, output, version) or written_before(passage, None)

    return go_out(runtime, connection, claim, work)
