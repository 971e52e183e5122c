"""The end of a limited run of which nobody listens: one commit, and the next in line starts with it."""

from celeryflows.engine.catalog import Snapshot
from celeryflows.engine.leaving import NotMine, go_out, pass_out, written_before
from celeryflows.engine.passage import Passage
from celeryflows.engine.runtime import Runtime
from celeryflows.model.runs import Delivery
from celeryflows.store.connection import Connection
from celeryflows.store.runs import Claim


def end_quietly(runtime: Runtime, connection: Connection, claim: Claim, output: str, snapshot: Snapshot) -> str | None:
    """What is owed by the end; None where it has to be heard, or the turn is past."""
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
