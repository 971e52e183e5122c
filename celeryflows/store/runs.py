"""Runs: one row each. A status changes only by a compare-and-set that states where it came from."""

from collections.abc import Sequence
from dataclasses import dataclass

from celeryflows.model.events import StoredEvent
from celeryflows.model.runs import Delivery, NewRun
from celeryflows.store.columns import ALONG, cut_off
from celeryflows.store.events import read_event
from celeryflows.store.executor import Row, Verbs
from celeryflows.store.new_runs import NUMBERS, insert_of, run_fields
from celeryflows.store.run_rows import Bound as Bound
from celeryflows.store.run_rows import CancelledRow as CancelledRow
from celeryflows.store.run_rows import Held as Held
from celeryflows.store.run_rows import Outcome as Outcome

# Who comes back asks at its gates first: in a transaction of its own, right after the commit.
TO_THE_DOOR = (
    "held_at = CASE WHEN g1 IS NOT NULL OR held_at IS NOT NULL THEN '0' END, "
    "sent_at = CASE WHEN g1 IS NULL AND held_at IS NULL THEN {now} END"
)

# The message is only a hint: a doubled or late one finds nothing to claim. The token fences what the turn cannot:
# a claim that the database lost in a crash may be made again under the same number. Past its time nobody takes it on:
# whoever should have cancelled it may be dead, and the leader will.
CLAIM = """
UPDATE flows_runs SET status = 'running', turn = turn + 1, worker = :worker, carrier = :carrier, claim_tok = :token,
  wake_at = NULL, expires_at = NULL, started_at = COALESCE(started_at, {now}) {with_trigger}
WHERE flows_runs.id = :id AND status = 'queued' AND held_at IS NULL AND (finish_by IS NULL OR finish_by > {now})
  {its_trigger}
RETURNING turn, flow, version, attempt, lost, started_at, {now}, message, origin, {trigger}, g1, g2, n1, n2, batch,
  lost_since
"""

# In the delivery that made it ready: it came by no message, and tells nothing of how long those take.
CLAIM_CARRIED = CLAIM.replace("wake_at = NULL,", "wake_at = NULL, sent_at = NULL,")

FACTS = """
SELECT turn, flow, version, attempt, lost, started_at, {now}, message, origin, e.id, e.ext_id, e.name, e.data, e.ts,
  e.v, g1, g2, n1, n2, batch, lost_since FROM flows_runs JOIN flows_events e ON e.id = flows_runs.event_id
WHERE flows_runs.id = :id
"""
CLAIMED = f"{FACTS} AND claim_tok = :token AND status = 'running'"

FENCE = "WHERE id = :id AND turn = :turn AND claim_tok = :token AND status = 'running'"

SUSPEND = f"""
UPDATE flows_runs SET status = 'suspended', worker = NULL, wake_at = :wake, attempt = :attempt, lost = 0,
  lost_since = NULL, n1 = NULL, n2 = NULL {FENCE}
RETURNING id
"""

# Who has a parent owes it an answer: told right after the commit, or by recovery. What the losers of its races owe
# to their children stays owed.
_OWES = "owes = CASE WHEN parent IS NULL THEN owes WHEN owes IS NULL THEN 'end' ELSE 'end and losers' END"
_OWED = "RETURNING COALESCE(owes, 'nothing')"
NOTHING = "nothing"

FINISH = f"""
UPDATE flows_runs SET status = :status, worker = NULL, ended_at = {{now}}, output = :output, error = :error, {_OWES},
  n1 = NULL, n2 = NULL
{FENCE} {_OWED}
"""

# Refused once the declared flows, or what is waited for, are others than the caller knows, and while a wait is open.
FINISH_UNHEARD = f"""
UPDATE flows_runs SET status = 'completed', worker = NULL, ended_at = {{now}}, output = :output, error = NULL, {_OWES},
  n1 = NULL, n2 = NULL
{FENCE} AND COALESCE((SELECT value FROM flows_meta WHERE key = 'flows_version'), '0') = :version
AND NOT EXISTS (SELECT 1 FROM flows_waits w WHERE w.run_id = :id AND w.state = 'open')
{_OWED}
"""

HAND_BACK = f"""
UPDATE flows_runs SET status = 'queued', worker = NULL, sent_at = {{now}}, sends = 0 {FENCE}
RETURNING id, flow, message
"""

# The count of memos tells where a run was lost: at the same point again, or further on.
_MEMOS = "(SELECT count(*) FROM flows_steps s WHERE s.run_id = flows_runs.id AND s.state <> 'retrying')"
REQUEUE = f"""
UPDATE flows_runs SET status = 'queued', worker = NULL, claim_tok = NULL,
  {cut_off(_MEMOS)},
  lost = CASE WHEN lost_at = {_MEMOS} THEN lost + 1 ELSE 1 END, lost_at = {_MEMOS}, sent_at = {{now}}, sends = 0
{FENCE} RETURNING id, flow, message, lost
"""
# Of a worker that stops for good: no loss, but what the step at hand has provoked is there.
LEAVE = f"""
UPDATE flows_runs SET status = 'queued', worker = NULL, {cut_off(_MEMOS)},
  lost = CASE WHEN lost_at = {_MEMOS} THEN lost ELSE 0 END, lost_at = {_MEMOS}, sent_at = {{now}}, sends = 0
WHERE worker = :worker AND status = 'running' AND {ALONG} RETURNING id, flow, message
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """A turn that is ours: fenced by its number and token. `at` is the store's clock at the claim.

    `path` names the branch that it is a turn of, '' for the run itself; `started_at` is the run's. `gates` are those
    that its limits make it pass, `numbers` its slots there. `batch`: how many events a batch's run has, `events` all of
    them once they are read. `lost_since`: from when on the step may have begun at which the turns before this one were
    lost or cut off, None when none was since the unit last waited.
    """

    run_id: str
    worker: str
    token: int
    turn: int
    flow: str
    version: str | None
    attempt: int
    lost: int
    started_at: int
    at: int
    message: str | None
    origin: str | None
    event: StoredEvent
    path: str = ""
    gates: tuple[str, ...] = ()
    numbers: tuple[int | None, ...] = ()
    batch: int | None = None
    events: tuple[StoredEvent, ...] = ()
    lost_since: int | None = None

    @property
    def unit(self) -> tuple[str, str]:
        """The run, or its branch."""
        return self.run_id, self.path

    @property
    def delivery(self) -> Delivery:
        """The unit's message."""
        return Delivery(self.run_id, self.flow, self.message, self.path)


class Runs(Verbs):
    """The verbs of runs."""

    def add(self, runs: Sequence[NewRun]) -> None:
        """Write new runs; one whose id is there already is left as it is."""
        kinds: dict[str, list[dict[str, object]]] = {}
        for run in runs:
            kinds.setdefault(insert_of(run), []).append(run_fields(run))
        for sql, rows in kinds.items():
            self._insert(sql, rows, NUMBERS)

    def claim(
        self, run_id: str, worker: str, token: int, *, carried: bool = False, carrier: str | None = None
    ) -> Claim | None:
        """Take the next turn; None when there is nothing to claim. `carried`: nothing was sent for it; `carrier`: the
        message that it comes by, None for the run's own."""
        asked = CLAIM_CARRIED if carried else CLAIM
        rows = self._execute_hot(asked, id=run_id, worker=worker, token=token, carrier=carrier)
        return claim_of(run_id, worker, token, rows)

    def claimed(self, run_id: str, worker: str, token: int) -> Claim | None:
        """After a claim whose reply was lost: our claim, if it was made."""
        return claim_of(run_id, worker, token, self._execute(CLAIMED, id=run_id, token=token))

    def facts(self, run_id: str, worker: str) -> Claim | None:
        """What a branch's claim takes of its run: no turn of the run itself."""
        return claim_of(run_id, worker, 0, self._execute_hot(FACTS, id=run_id))

    def stands(self, claim: Claim) -> Outcome | None:
        """How the run of a claim stands."""
        return self.outcome(claim.run_id)

    def suspend(self, claim: Claim, wake: int | None, attempt: int) -> bool:
        """running -> suspended until `wake`; False when the turn is no longer ours."""
        return bool(
            self._execute_hot(SUSPEND, id=claim.run_id, turn=claim.turn, token=claim.token, wake=wake, attempt=attempt)
        )

    def resume_own(self, claim: Claim) -> None:
        """suspended -> running in the transaction that suspended it: what it waits for has come already."""
        self._execute(
            "UPDATE flows_runs SET status = 'running', worker = :worker, wake_at = NULL, n1 = :one, n2 = :two "
            "WHERE id = :id AND turn = :turn AND claim_tok = :token AND status = 'suspended'",
            id=claim.run_id,
            turn=claim.turn,
            token=claim.token,
            worker=claim.worker,
            one=claim.numbers[0] if claim.numbers else None,
            two=claim.numbers[1] if len(claim.numbers) > 1 else None,
        )

    def note_error(self, claim: Claim, error: str) -> None:
        """The body's last error, of a run that is tried again."""
        self._execute("UPDATE flows_runs SET error = :error WHERE id = :id", id=claim.run_id, error=error)

    def finish(self, claim: Claim, status: str, output: str | None, error: str | None) -> str | None:
        """running -> completed or failed, and what that owes; None when the turn is no longer ours."""
        rows = self._execute_hot(
            FINISH,
            id=claim.run_id,
            turn=claim.turn,
            token=claim.token,
            status=status,
            output=output,
            error=error,
        )
        return rows[0][0] if rows else None

    def finish_unheard(self, claim: Claim, output: str, version: str) -> str | None:
        """running -> completed where nobody listens, in one statement, and what that owes; None when the turn, or the
        version, is past."""
        rows = self._execute_hot(
            FINISH_UNHEARD, id=claim.run_id, turn=claim.turn, token=claim.token, output=output, version=version
        )
        return rows[0][0] if rows else None

    def hand_back(self, claim: Claim) -> Delivery | None:
        """running -> queued without counting a loss: the worker stops, or the turn has had its time."""
        rows = self._execute(HAND_BACK, id=claim.run_id, turn=claim.turn, token=claim.token)
        return Delivery(*rows[0]) if rows else None

    def shelve(self, run_id: str, token: int) -> bool:
        """running -> queued of a claim that this process cannot read: sent again later, with doubled patience."""
        return bool(
            self._execute(
                "UPDATE flows_runs SET status = 'queued', worker = NULL, sent_at = {now}, sends = sends + 1 "
                "WHERE id = :id AND claim_tok = :token AND status = 'running' RETURNING id",
                id=run_id,
                token=token,
            )
        )

    def requeue(self, held: Held) -> tuple[Delivery, int] | None:
        """running -> queued after its worker was lost; the message and the losses at this point."""
        rows = self._execute(REQUEUE, id=held.id, turn=held.turn, token=held.token)
        return (Delivery(*rows[0][:3]), rows[0][3]) if rows else None

    def cancel(self, run_ids: Sequence[str], reason: str, *, past: Bound | None = None) -> list[CancelledRow]:
        """Any open state -> cancelled, of locked runs; those that moved. `past`: only those that are past the bound."""
        overdue = f"AND {past} <= {{now}} " if past is not None else ""
        rows = self._execute(
            "UPDATE flows_runs SET status = 'cancelled', reason = :reason, ended_at = {now}, wake_at = NULL, "
            "expires_at = NULL, finish_by = NULL, owes = CASE WHEN parent IS NOT NULL OR EXISTS (SELECT 1 FROM "
            "flows_waits w WHERE w.run_id = flows_runs.id AND w.kind = 'invoke' AND w.path <> '') THEN 'end' END "
            "WHERE id {in_texts:ids} "
            f"AND status IN ('scheduled', 'queued', 'running', 'suspended') {overdue}"
            "RETURNING id, flow, message, event_id, turn, worker, owes, COALESCE(g1, held_at)",
            ids=self._array(run_ids),
            reason=reason,
        )
        return [
            CancelledRow(row[0], row[1], row[2], row[3], row[4], row[5] is not None, row[6], row[7] is not None)
            for row in rows
        ]

    def carrier(self, run_id: str) -> str:
        """What carries the run's turn, or carried the last one: '' for its own message."""
        rows = self._execute("SELECT COALESCE(carrier, '') FROM flows_runs WHERE id = :id", id=run_id)
        return str(rows[0][0]) if rows else ""

    def leave(self, worker: str) -> list[Delivery]:
        """running -> queued of all that a worker holds that stops for good; no loss is counted."""
        return [Delivery(*row) for row in self._execute(LEAVE, worker=worker)]

    def fail_lost(self, run_id: str, error: str) -> bool:
        """queued -> failed, after too many lost workers."""
        return bool(
            self._execute(
                f"UPDATE flows_runs SET status = 'failed', error = :error, ended_at = {{now}}, {_OWES} "
                "WHERE id = :id AND status = 'queued' RETURNING id",
                id=run_id,
                error=error,
            )
        )

    def lock(self, run_ids: Sequence[str]) -> None:
        """Take the rows, sorted (lock class 3)."""
        if self._connection.dialect.has_row_locks and run_ids:
            self._execute(
                "SELECT id FROM flows_runs WHERE id {in_texts:ids} ORDER BY id {lock}", ids=self._array(sorted(run_ids))
            )

    def queue_answered(self, run_ids: Sequence[str]) -> list[Delivery]:
        """suspended -> queued, of locked runs whose wait was answered."""
        return self._queue("status = 'suspended'", run_ids)

    def queue_due(self, run_ids: Sequence[str]) -> list[Delivery]:
        """suspended or scheduled -> queued, of locked runs whose time has come."""
        return self._queue("status IN ('suspended', 'scheduled') AND wake_at <= {now}", run_ids)

    def due(self, limit: int = 200) -> list[str]:
        """Runs whose time has come, the longest due first. No lock: the compare-and-set decides."""
        rows = self._execute(
            f"SELECT id FROM flows_runs WHERE wake_at <= {{by_now}} AND {ALONG} ORDER BY wake_at LIMIT :most",
            most=limit,
        )
        return [row[0] for row in rows]

    def next_wake(self) -> int | None:
        """The next moment at which a run or a branch wakes."""
        rows = self._execute(
            f"SELECT min(at) FROM (SELECT min(wake_at) AS at FROM flows_runs WHERE wake_at IS NOT NULL AND {ALONG} "
            f"UNION ALL SELECT min(wake_at) FROM flows_branches WHERE wake_at IS NOT NULL AND {ALONG}) AS wakes"
        )
        return rows[0][0]  # type: ignore[no-any-return]

    def next_due(self) -> int | None:
        """The next moment at which a run, a branch, a cron, a window, a replay or a bound is due."""
        rows = self._execute(
            f"SELECT min(at) FROM (SELECT min(wake_at) AS at FROM flows_runs WHERE wake_at IS NOT NULL AND {ALONG} "
            f"UNION ALL SELECT min(wake_at) FROM flows_branches WHERE wake_at IS NOT NULL AND {ALONG} "
            f"UNION ALL SELECT min(expires_at) FROM flows_runs WHERE expires_at IS NOT NULL AND {ALONG} "
            f"UNION ALL SELECT min(finish_by) FROM flows_runs WHERE finish_by IS NOT NULL AND {ALONG} "
            "UNION ALL SELECT min(next_at) FROM flows_crons WHERE next_at IS NOT NULL "
            "UNION ALL SELECT min(fire_at) FROM flows_debounces UNION ALL SELECT min(deadline) FROM flows_batches "
            "UNION ALL SELECT min(next_at) FROM flows_replays WHERE next_at IS NOT NULL) AS dues"
        )
        return rows[0][0]  # type: ignore[no-any-return]

    def of_worker(self, worker: str) -> list[Held]:
        """What a worker is running."""
        rows = self._execute(
            "SELECT id, turn, worker, claim_tok, '', COALESCE(carrier, '') FROM flows_runs "
            f"WHERE worker = :worker AND status = 'running' AND {ALONG}",
            worker=worker,
        )
        return [Held(*row) for row in rows]

    def orphans(self, silence: int, limit: int = 200) -> list[Held]:
        """Running runs whose worker has not beaten for `silence` microseconds, or is not known."""
        rows = self._execute(
            "SELECT r.id, r.turn, r.worker, r.claim_tok, '', COALESCE(r.carrier, '') "
            "FROM flows_runs r LEFT JOIN flows_workers w ON w.id = r.worker "
            "WHERE r.status = 'running' AND r.sends >= 0 AND (w.id IS NULL OR w.beat_at <= {now} - :silence) "
            "LIMIT :most",
            silence=silence,
            most=limit,
        )
        return [Held(*row) for row in rows]

    def outcome(self, run_id: str) -> Outcome | None:
        """How the run stands, None when there is none."""
        rows = self._execute(
            "SELECT id, flow, status, turn, claim_tok, output, error, reason, event_id, started_at, ended_at, message, "
            "parent, continued_from, continued_as, owes, batch FROM flows_runs WHERE id = :id",
            id=run_id,
        )
        return Outcome(*rows[0]) if rows else None

    def before_first_turn(self, run_ids: Sequence[str]) -> list[tuple[str, str, str, str | None]]:
        """Of these runs those that no worker has taken yet: id, flow, event id, version."""
        return self._execute(
            "SELECT id, flow, event_id, version FROM flows_runs WHERE id {in_texts:ids} AND turn = 0 ORDER BY id",
            ids=self._array(sorted(run_ids)),
        )

    def _queue(self, condition: str, run_ids: Sequence[str]) -> list[Delivery]:
        rows = self._execute(
            f"UPDATE flows_runs SET status = 'queued', wake_at = NULL, sends = 0, {TO_THE_DOOR} "
            f"WHERE id {{in_texts:ids}} AND {condition} RETURNING id, flow, message, held_at",
            ids=self._array(sorted(run_ids)),
        )
        # SQLite 3.40 answers a RETURNING of `held_at IS NOT NULL` with 1 for every row.
        return [Delivery(row[0], row[1], row[2], at_door=row[3] is not None) for row in rows]


def claim_of(run_id: str, worker: str, token: int, rows: list[Row]) -> Claim | None:
    """The claim that CLAIM, CLAIMED or FACTS answers with; None where it has no row. Raises PayloadLocked."""
    if not rows:
        return None
    row = rows[0]
    turn, flow, version, attempt, lost, started_at, at, message, origin = row[:9]
    event = read_event(row[9:15])
    gates = tuple(gate for gate in row[15:17] if gate is not None) if row[15] is not None else ()
    return Claim(
        run_id, worker, token, turn, flow, version, attempt, lost, started_at, at, message, origin, event, "", gates,
        row[17 : 17 + len(gates)], row[19], lost_since=row[20],
    )  # fmt: skip
