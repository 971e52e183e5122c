"""Replays: the ended runs of a flow in a range of time, started again at a pace, each exactly once.

The leader drives them piece by piece; a piece is one transaction that moves the cursor, so that anybody may go on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from celeryflows.durations import SECOND, parse_moment
from celeryflows.engine import telling
from celeryflows.engine.admission import guard_again
from celeryflows.engine.leaving import send_off
from celeryflows.engine.rerun import current_version, delivery_of, routes
from celeryflows.engine.runtime import Runtime
from celeryflows.errors import RerunRefused, UnknownFlow
from celeryflows.expressions import Expression
from celeryflows.ids import new_id, sibling_id
from celeryflows.model.replays import Quota, Selection, quota, read_selection, read_statuses
from celeryflows.store.connection import Connection
from celeryflows.store.replays import Looked, ReplayRow
from celeryflows.store.reruns import NewRerun

PIECE = 200
LOOK = 1_000


def count(runtime: Runtime, flow: str, selection: Selection) -> int:
    """How many runs would be started again. Raises UnknownFlow, ExpressionError."""
    compiled = selection.condition()
    with runtime.store.connection() as connection:
        current_version(runtime, connection, flow)
        return sum(len(taken) for taken in _pages(connection, flow, selection, compiled))


def select_runs(
    runtime: Runtime,
    *,
    after: datetime | str | None,
    before: datetime | str | None,
    status: str | Sequence[str],
    if_exp: str | None,
) -> Selection:
    """The runs that a replay takes, of those that have ended by now. Raises RerunRefused or InvalidDuration."""
    with runtime.store.connection() as connection:
        now = connection.now()
    selection = Selection(
        read_statuses(status),
        now,
        None if after is None else parse_moment(after, "after"),
        None if before is None else parse_moment(before, "before"),
        if_exp,
    )
    selection.condition()
    return selection


def start_replay(runtime: Runtime, flow: str, selection: Selection, pace: int) -> str:
    """Store a replay; from now on the leader drives it. Its id. Raises UnknownFlow, ExpressionError."""
    row = ReplayRow(new_id(), flow, selection.text(), pace, None, count(runtime, flow, selection), 0, 0, 0, None)
    runtime.store.transact(lambda tx: tx.replays.add(row))
    return row.id


def stop_replay(runtime: Runtime, replay_id: str, because: str) -> bool:
    """Start no more runs of it; those that it started go on. False when it had ended."""
    tries = 0

    def work(tx: Connection) -> bool:
        nonlocal tries
        tries += 1
        row = known_replay(tx, replay_id)
        text = replace(read_selection(row.selection), cancelled=because).text()
        # The text is there before when it was our own commit, whose reply was lost.
        return tx.replays.stop(replay_id, text) or (tries > 1 and row.selection == text)

    return runtime.store.transact(work)


def known_replay(connection: Connection, replay_id: str) -> ReplayRow:
    """How it stands. Raises RerunRefused when there is none of that id."""
    row = connection.replays.get(replay_id)
    if row is None:
        raise RerunRefused(f"No replay {replay_id!r}; flows.replays() lists them.")
    return row


def drive_due(runtime: Runtime) -> int:
    """Start what is due of every replay, a bounded piece of each; how many were due."""
    with runtime.store.connection() as connection:
        due = connection.replays.due()
        for row in due:
            started = _drive(runtime, connection, row)
            if started:
                send_off(runtime, [delivery_of(runtime, run) for run in started])
                telling.queued((run.id, run.flow, run.event_id, run.version) for run in started)
    return len(due)


@dataclass(frozen=True, slots=True)
class _Piece:
    """What the next transaction starts, how far it looked, and when the next piece is due; None at the end."""

    runs: tuple[NewRerun, ...]
    cursor: str | None
    next_at: int | None


def _drive(runtime: Runtime, connection: Connection, row: ReplayRow) -> Sequence[NewRerun]:
    try:
        version = current_version(runtime, connection, row.flow)
    except UnknownFlow:
        # A deploy may bring it back.
        connection.replays.wait(row, 5 * SECOND)
        return ()
    if connection.replays.is_paused(row.flow):
        connection.replays.wait(row, SECOND)
        return ()
    due = quota(row.next_at or 0, connection.now(), row.pace, PIECE)
    piece = _next_piece(connection, row, version, due)
    return connection.transact(_started(runtime, row, piece))


def _next_piece(connection: Connection, row: ReplayRow, version: str | None, due: Quota) -> _Piece:
    selection = read_selection(row.selection)
    looked = connection.replays.look(row.flow, row.cursor, LOOK)
    others = [one for one in looked if one.origin is None or one.id != sibling_id(row.id, one.origin)]
    taken = _taken(connection, others, selection, selection.condition())
    chosen = taken[: due.most]
    runs = tuple(
        NewRerun(sibling_id(row.id, one.id), row.flow, version, one.event_id, one.id, routes(one.message))
        for one in chosen
    )
    if len(chosen) < len(taken):
        return _Piece(runs, chosen[-1].id if chosen else row.cursor, due.next_at(len(runs)))
    at_end = len(looked) < LOOK
    return _Piece(runs, looked[-1].id if looked else row.cursor, None if at_end else due.next_at(len(runs)))


def _started(runtime: Runtime, row: ReplayRow, piece: _Piece) -> Callable[[Connection], Sequence[NewRerun]]:
    tries = 0

    def work(tx: Connection) -> Sequence[NewRerun]:
        nonlocal tries
        tries += 1
        moved = tx.replays.advance(row, piece.cursor, len(piece.runs), piece.next_at)
        if moved:
            tx.reruns.add(piece.runs)
            tx.batches.copy_all([(run.origin, run.id) for run in piece.runs if run.origin is not None])
            guard_again(runtime, tx, piece.runs)
        elif tries == 1:
            return ()
        # After a try whose reply was lost: what is there is ours or another driver's, and two messages do no harm.
        there = {run.id for run in piece.runs} if moved else tx.reruns.there([run.id for run in piece.runs])
        return [run for run in piece.runs if run.id in there]

    return work


def _pages(
    connection: Connection, flow: str, selection: Selection, compiled: Expression | None
) -> Iterator[list[Looked]]:
    cursor: str | None = None
    while looked := connection.replays.look(flow, cursor, LOOK):
        yield _taken(connection, looked, selection, compiled)
        cursor = looked[-1].id


def _taken(
    connection: Connection, looked: Sequence[Looked], selection: Selection, compiled: Expression | None
) -> list[Looked]:
    found = [one for one in looked if _is_meant(one, selection)]
    if compiled is None or not found:
        return found
    events = connection.replays.events([one.event_id for one in found])
    return [one for one in found if selection.takes(events.get(one.event_id), compiled)]


def _is_meant(one: Looked, selection: Selection) -> bool:
    # A duplicate was skipped because its event has started the flow, or is in another run: that is no loss.
    return (
        one.status in selection.statuses
        and not one.is_duplicate
        and one.ended_at is not None
        and one.ended_at <= selection.ended_by
        and (selection.after is None or one.created_at >= selection.after)
        and (selection.before is None or one.created_at < selection.before)
    )
