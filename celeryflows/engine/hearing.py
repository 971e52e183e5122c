"""The first wait ever for the ends of runs. Who ends while it begins to listen may not know of it, and tells nobody:
those runs are noted, and their ends are told afterwards, by who waits or by the leader."""

import logging
from collections.abc import Iterable, Sequence

from celeryflows.engine.aftermath import left_to_recovery
from celeryflows.engine.endings import end_event, told
from celeryflows.engine.finish import route_ended
from celeryflows.engine.matching import LIFECYCLE
from celeryflows.engine.runtime import Runtime
from celeryflows.errors import PayloadLocked
from celeryflows.model.events import StoredEvent
from celeryflows.model.runs import ENDED
from celeryflows.model.waits import WaitSpec
from celeryflows.store.connection import Connection
from celeryflows.store.hearings import Noted
from celeryflows.store.run_rows import Outcome

logger = logging.getLogger("celeryflows")


def begin_to_hear(runtime: Runtime, connection: Connection, waits: Iterable[WaitSpec]) -> None:
    """Before waits are armed, in transactions of its own: from the first one's commit on, ends are told to such waits.

    Nothing for names that were waited on before.
    """
    wanted = [wait for wait in waits if wait.name in LIFECYCLE]
    if not wanted or not _new_names(connection, wanted):
        return

    def work(tx: Connection) -> bool:
        tx.locks.hold_names_and_stripes([], sorted({wait.name for wait in wanted}), [])
        names = _new_names(tx, wanted)
        for wait in wanted:
            if wait.name in names:
                tx.waits.add_shape(wait.name, wait.path)
                tx.hearings.begin(wait.name, min(wait.began for wait in wanted))
        if names:
            tx.flows.touch()
            # Who found that nobody listens and has not committed yet is waited for, and is among the ended then.
            tx.locks.hold_telling()
        return bool(names)

    if connection.transact(work):
        tell_missed(runtime)


def _new_names(connection: Connection, waits: Sequence[WaitSpec]) -> set[str]:
    names = {wait.name for wait in waits}
    return names - connection.repeat(lambda: connection.waits.shapes(names)).keys()


def tell_missed(runtime: Runtime) -> int:
    """Tell the ends of runs that were noted as far as they have ended; how many were."""
    count = 0
    with left_to_recovery(), runtime.store.connection() as connection:
        for name, since in connection.repeat(connection.hearings.begun):
            # A later statement than the commit: whoever begins a turn after it knows who listens.
            _note(connection, name, since, runtime.settings.lookback_candidates)
        for one in connection.repeat(connection.hearings.over):
            count += _tell(runtime, connection, one)
    return count


def _note(connection: Connection, name: str, since: int, most: int) -> None:
    """Note who may have told nobody."""
    connection.transact(lambda tx: tx.hearings.note(name, since, most))


def _tell(runtime: Runtime, connection: Connection, one: Noted) -> bool:
    event: StoredEvent | None = None

    def work(tx: Connection) -> None:
        nonlocal event
        found = tx.runs.outcome(one.run_id)
        event = _untold(runtime, tx, found) if found is not None and found.status in ENDED else None
        if event is not None:
            tx.events.add_unrouted([event])
        tx.hearings.forget(one)

    try:
        connection.transact(work)
    except PayloadLocked as error:
        logger.error("the end of run %s cannot be told here: %s", one.run_id, error)
        return False
    if event is not None:
        route_ended(runtime, event)
    return event is not None


def _untold(runtime: Runtime, tx: Connection, found: Outcome) -> StoredEvent | None:
    """The event of an end, whose id follows from the run: told twice is told once."""
    event = end_event(runtime, tx, found)
    return event if event is not None and told(runtime, tx, event.name) else None
