"""Branches: units like runs, one row each. Claimed, fenced, queued and woken as runs are, by the same moves."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from typing import Literal

from celeryflows.model.branches import group_of
from celeryflows.model.runs import Delivery
from celeryflows.store.columns import ALONG, cut_off
from celeryflows.store.executor import Row, Verbs
from celeryflows.store.runs import TO_THE_DOOR, Claim, Held

Unit = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Following:
    """The branch that the delivery `carrier` takes on when another ends, '' for none.

    `token` is that of its claim, or of who opened the group: known before, for a reply may be lost.
    """

    path: str = ""
    token: int = 0
    carrier: str = ""


CLAIM = """
UPDATE flows_branches SET status = 'running', turn = turn + 1, worker = :worker, claim_tok = :token,
  carrier = :carrier, wake_at = NULL, started_at = COALESCE(started_at, {now})
WHERE run_id = :id AND path = :path AND status = 'queued' AND held_at IS NULL
RETURNING turn, attempt, lost, lost_since, {now}, n1, n2
"""

_FENCE = "WHERE run_id = :id AND path = :path AND turn = :turn AND claim_tok = :token AND status = 'running'"

SUSPEND = f"""
UPDATE flows_branches SET status = 'suspended', worker = NULL, wake_at = :wake, attempt = :attempt, lost = 0,
  lost_since = NULL, n1 = NULL, n2 = NULL {_FENCE}
RETURNING path
"""

END = f"""
UPDATE flows_branches SET status = :status, worker = NULL, ended_at = {{now}}, value = :value, error = :error,
  n1 = NULL, n2 = NULL {_FENCE}
RETURNING path
"""

# Where a statement may hold several that write: a branch that is not the last ends in one, which claims the one that
# follows. The group's row comes first; nobody is waited for behind our own.
END_AMONG = f"""
WITH its AS MATERIALIZED (SELECT run_id, path FROM flows_groups WHERE run_id = :id AND path = :group
    AND state = 'open' AND kind = 'parallel' AND remaining > 1 FOR UPDATE),
  mine AS (UPDATE flows_branches SET status = :status, worker = NULL, ended_at = {{now}}, value = :value,
    error = :error {_FENCE} AND EXISTS (SELECT 1 FROM its) RETURNING run_id),
  counted AS (UPDATE flows_groups SET remaining = remaining - 1 FROM mine
    WHERE flows_groups.run_id = mine.run_id AND flows_groups.path = :group),
  free AS MATERIALIZED (SELECT run_id, path FROM flows_branches WHERE run_id = :id AND path = :next
    AND status = 'queued' AND EXISTS (SELECT 1 FROM mine) {{lock_what_is_free}}),
  next AS (UPDATE flows_branches b SET status = 'running', turn = turn + 1, worker = :worker, claim_tok = :next_token,
    carrier = :carrier, wake_at = NULL, started_at = COALESCE(started_at, {{now}})
    FROM free WHERE b.run_id = free.run_id AND b.path = free.path
    RETURNING b.turn, b.attempt, b.lost, b.lost_since, {{now}} AS at)
SELECT next.turn, next.attempt, next.lost, next.lost_since, next.at FROM mine LEFT JOIN next ON true
"""

_MEMOS = (
    "(SELECT count(*) FROM flows_steps s WHERE s.run_id = flows_branches.run_id AND s.branch = flows_branches.path "
    "AND s.state <> 'retrying')"
)
REQUEUE = f"""
UPDATE flows_branches SET status = 'queued', worker = NULL, claim_tok = NULL,
  {cut_off(_MEMOS)},
  lost = CASE WHEN lost_at = {_MEMOS} THEN lost + 1 ELSE 1 END, lost_at = {_MEMOS}, sent_at = {{now}}, sends = 0
{_FENCE} RETURNING lost
"""
LEAVE = f"""
UPDATE flows_branches SET status = 'queued', worker = NULL, {cut_off(_MEMOS)},
  lost = CASE WHEN lost_at = {_MEMOS} THEN lost ELSE 0 END, lost_at = {_MEMOS}, sent_at = {{now}}, sends = 0
WHERE worker = :worker AND status = 'running' AND {ALONG} RETURNING run_id, path
"""

_OPEN = "status IN ('queued', 'running', 'suspended')"
# All below a prefix; no LIKE, for a path may hold what that takes for a wildcard.
_BELOW = "run_id = :run AND substr(path, 1, length(CAST(:prefix AS varchar))) = CAST(:prefix AS varchar)"


@dataclass(frozen=True, slots=True)
class Standing:
    """How a branch stands, and whose the last turn was."""

    turn: int
    token: int | None
    status: str


class Branches(Verbs):
    """The verbs of branches; those of a claim are named as they are for runs."""

    def claim(self, facts: Claim, path: str, token: int, carrier: str) -> Claim | None:
        """Take a branch's next turn; None when there is nothing to claim. `facts` are the run's."""
        rows = self._execute_hot(CLAIM, id=facts.run_id, path=path, worker=facts.worker, token=token, carrier=carrier)
        return _claim(facts, path, token, rows)

    def claimed(self, facts: Claim, path: str, token: int) -> Claim | None:
        """After a claim whose reply was lost: our claim, if it was made."""
        rows = self._execute(
            "SELECT turn, attempt, lost, lost_since, {now}, n1, n2 FROM flows_branches "
            "WHERE run_id = :id AND path = :path AND claim_tok = :token AND status = 'running'",
            id=facts.run_id,
            path=path,
            token=token,
        )
        return _claim(facts, path, token, rows)

    def suspend(self, claim: Claim, wake: int | None, attempt: int) -> bool:
        """running -> suspended until `wake` or an answer; False when the turn is no longer ours."""
        return bool(self._execute_hot(SUSPEND, **_fence(claim), wake=wake, attempt=attempt))

    def resume_own(self, claim: Claim) -> None:
        """suspended -> running in the transaction that suspended it."""
        self._execute(
            "UPDATE flows_branches SET status = 'running', worker = :worker, wake_at = NULL, n1 = :one, n2 = :two "
            "WHERE run_id = :id AND path = :path AND turn = :turn AND claim_tok = :token AND status = 'suspended'",
            **_fence(claim),
            worker=claim.worker,
            one=claim.numbers[0] if claim.numbers else None,
            two=claim.numbers[1] if len(claim.numbers) > 1 else None,
        )

    def note_error(self, claim: Claim, error: str) -> None:
        """Its body's last error, of a branch that is tried again."""
        self._execute(
            "UPDATE flows_branches SET error = :error WHERE run_id = :id AND path = :path",
            id=claim.run_id,
            path=claim.path,
            error=error,
        )

    def end(self, claim: Claim, status: str, value: str | None, error: str | None) -> bool:
        """running -> completed or failed; False when the turn is no longer ours."""
        return bool(self._execute_hot(END, **_fence(claim), status=status, value=value, error=error))

    def end_among(
        self, claim: Claim, status: str, value: str | None, error: str | None, following: Following
    ) -> Claim | Literal[True] | None:
        """As `end`, and counted in its group, in one statement of its own: the claim of what follows, True where that
        is not free. None where it cannot be so."""
        if not self._connection.dialect.has_writing_ctes:
            return None
        rows = self._execute_hot(
            END_AMONG,
            **_fence(claim),
            group=group_of(claim.path),
            status=status,
            value=value,
            error=error,
            next=following.path,
            next_token=following.token,
            worker=claim.worker,
            carrier=following.carrier,
        )
        if not rows:
            return None
        return True if rows[0][0] is None else _claim(claim, following.path, following.token, rows)

    def unclaimed(self, run_id: str, group: str) -> list[str]:
        """Queued branches of the group, by position."""
        rows = self._execute(
            "SELECT path FROM flows_branches WHERE run_id = :run AND status = 'queued' AND group_path = :group "
            "ORDER BY idx",
            run=run_id,
            group=group,
        )
        return [row[0] for row in rows]

    def hand_back(self, claim: Claim) -> Delivery | None:
        """running -> queued without counting a loss."""
        rows = self._execute(
            f"UPDATE flows_branches SET status = 'queued', worker = NULL, sent_at = {{now}}, sends = 0 {_FENCE} "
            "RETURNING path",
            **_fence(claim),
        )
        return claim.delivery if rows else None

    def shelve(self, run_id: str, token: int) -> bool:
        """running -> queued of a claim that this process cannot read: sent again later, with doubled patience."""
        return bool(
            self._execute(
                "UPDATE flows_branches SET status = 'queued', worker = NULL, sent_at = {now}, sends = sends + 1 "
                "WHERE run_id = :id AND claim_tok = :token AND status = 'running' RETURNING path",
                id=run_id,
                token=token,
            )
        )

    def requeue(self, held: Held) -> tuple[Delivery, int] | None:
        """running -> queued after its worker was lost; the message and the losses at this point."""
        rows = self._execute(REQUEUE, id=held.id, path=held.path, turn=held.turn, token=held.token)
        return (deliveries_of(self, [(held.id, held.path)])[0], rows[0][0]) if rows else None

    def fail_lost(self, unit: Unit, error: str) -> bool:
        """queued -> failed, after too many lost workers."""
        return bool(
            self._execute(
                "UPDATE flows_branches SET status = 'failed', error = :error, ended_at = {now} "
                "WHERE run_id = :run AND path = :path AND status = 'queued' RETURNING path",
                run=unit[0],
                path=unit[1],
                error=error,
            )
        )

    def leave(self, worker: str) -> list[Delivery]:
        """running -> queued of all that a worker holds that stops for good; no loss is counted."""
        return deliveries_of(self, self._execute(LEAVE, worker=worker))

    def lock(self, units: Sequence[Unit]) -> None:
        """Take the rows, sorted (lock class 4, after the runs)."""
        if self._connection.dialect.has_row_locks:
            for run, its in groupby(sorted(units), key=itemgetter(0)):
                self._execute(
                    "SELECT path FROM flows_branches "
                    "WHERE run_id = :run AND path {in_texts:paths} ORDER BY path {lock}",
                    run=run,
                    paths=self._array([path for _, path in its]),
                )

    def lock_all(self, runs: Iterable[str], units: Sequence[Unit] = ()) -> None:
        """Take the rows of all open branches of these runs, and these besides, in one order."""
        if self._connection.dialect.has_row_locks:
            rows = self._execute(
                f"SELECT run_id, path FROM flows_branches WHERE run_id {{in_texts:runs}} AND {_OPEN}",
                runs=self._array(sorted(runs)),
            )
            self.lock(sorted({*units, *((row[0], row[1]) for row in rows)}))

    def cancel_all(self, run_ids: Sequence[str]) -> None:
        """Any open state -> cancelled, of all branches of runs that were cancelled; with what one of them opened while
        its row was waited for, which only a later look sees."""
        cancel = (
            "WITH mine AS {materialized} (SELECT run_id, path FROM flows_branches "
            f"WHERE run_id {{in_texts:runs}} AND {_OPEN} ORDER BY run_id, path {{lock}}) "
            "UPDATE flows_branches SET status = 'cancelled', ended_at = {now}, wake_at = NULL "
            f"WHERE (run_id, path) IN (SELECT run_id, path FROM mine) AND {_OPEN} RETURNING path"
        )
        while self._execute(cancel, runs=self._array(sorted(run_ids))):
            pass

    def queue_answered(self, units: Sequence[Unit]) -> list[Delivery]:
        """suspended -> queued, of locked branches: a wait was answered, or an inner group has ended."""
        return self._queue("status = 'suspended'", units)

    def queue_due(self, units: Sequence[Unit]) -> list[Delivery]:
        """suspended -> queued, of locked branches whose time has come."""
        return self._queue("status = 'suspended' AND wake_at <= {now}", units)

    def lock_below(self, run_id: str, prefix: str) -> None:
        """Take the rows of all open branches whose path begins so, sorted."""
        if self._connection.dialect.has_row_locks:
            self._execute(
                f"SELECT path FROM flows_branches WHERE {_BELOW} AND {_OPEN} ORDER BY path {{lock}}",
                run=run_id,
                prefix=prefix,
            )

    def open_below(self, run_id: str, prefix: str) -> list[str]:
        """The open branches whose path begins so."""
        rows = self._execute(f"SELECT path FROM flows_branches WHERE {_BELOW} AND {_OPEN}", run=run_id, prefix=prefix)
        return [row[0] for row in rows]

    def cancel_below(self, run_id: str, prefix: str) -> int:
        """Any open state -> cancelled, of all branches whose path begins so; how many. With what one of them opened
        while its row was waited for, which only a later look sees."""
        count = 0
        cancel = (
            "UPDATE flows_branches SET status = 'cancelled', ended_at = {now}, wake_at = NULL "
            f"WHERE {_BELOW} AND {_OPEN} RETURNING path"
        )
        self.lock_below(run_id, prefix)
        while rows := self._execute(cancel, run=run_id, prefix=prefix):
            count += len(rows)
        return count

    def due(self, limit: int = 200) -> list[Unit]:
        """Branches whose time has come, the longest due first. No lock: the compare-and-set decides."""
        return [
            (run, path)
            for run, path in self._execute(
                f"SELECT run_id, path FROM flows_branches WHERE wake_at <= {{by_now}} AND {ALONG} "
                "ORDER BY wake_at LIMIT :most",
                most=limit,
            )
        ]

    def of_worker(self, worker: str) -> list[Held]:
        """What a worker is running."""
        rows = self._execute(
            "SELECT run_id, turn, worker, claim_tok, path, carrier FROM flows_branches "
            f"WHERE worker = :worker AND status = 'running' AND {ALONG}",
            worker=worker,
        )
        return [Held(*row) for row in rows]

    def orphans(self, silence: int, limit: int = 200) -> list[Held]:
        """Running branches whose worker has not beaten for `silence` microseconds, or is not known."""
        rows = self._execute(
            "SELECT b.run_id, b.turn, b.worker, b.claim_tok, b.path, b.carrier "
            "FROM flows_branches b LEFT JOIN flows_workers w ON w.id = b.worker "
            "WHERE b.status = 'running' AND b.sends >= 0 AND (w.id IS NULL OR w.beat_at <= {now} - :silence) "
            "LIMIT :most",
            silence=silence,
            most=limit,
        )
        return [Held(*row) for row in rows]

    def cut_off(self, run_id: str) -> list[str]:
        """The units whose messages carry branches that were cancelled while they ran."""
        rows = self._execute(
            "SELECT DISTINCT carrier FROM flows_branches "
            "WHERE run_id = :run AND status = 'cancelled' AND worker IS NOT NULL ORDER BY carrier",
            run=run_id,
        )
        return [row[0] for row in rows]

    def stands(self, claim: Claim) -> Standing | None:
        """How the branch of a claim stands, None when it is gone."""
        rows = self._execute(
            "SELECT turn, claim_tok, status FROM flows_branches WHERE run_id = :run AND path = :path",
            run=claim.run_id,
            path=claim.path,
        )
        return Standing(*rows[0]) if rows else None

    def _queue(self, condition: str, units: Sequence[Unit]) -> list[Delivery]:
        queued: list[Row] = []
        for run, path in sorted(units):
            queued += self._execute(
                f"UPDATE flows_branches SET status = 'queued', wake_at = NULL, sends = 0, {TO_THE_DOOR} "
                f"WHERE run_id = :run AND path = :path AND {condition} RETURNING run_id, path, held_at",
                run=run,
                path=path,
            )
        at_door = {(run, path) for run, path, door in queued if door is not None}
        found = deliveries_of(self, [(run, path) for run, path, _ in queued])
        return [replace(one, at_door=True) if (one.run_id, one.branch) in at_door else one for one in found]


def deliveries_of(verbs: Verbs, units: Sequence[Row] | Sequence[Unit]) -> list[Delivery]:
    """The messages of branches."""
    if not units:
        return []
    rows = verbs._execute(
        "SELECT id, flow, message FROM flows_runs WHERE id {in_texts:ids}",
        ids=verbs._array(sorted({unit[0] for unit in units})),
    )
    runs = {row[0]: row for row in rows}
    return [Delivery(run, runs[run][1], runs[run][2], path) for run, path in units]


def _fence(claim: Claim) -> dict[str, object]:
    return {"id": claim.run_id, "path": claim.path, "turn": claim.turn, "token": claim.token}


def _claim(facts: Claim, path: str, token: int, rows: list[Row]) -> Claim | None:
    if not rows:
        return None
    turn, attempt, lost, lost_since, at = rows[0][:5]
    numbers = rows[0][5 : 5 + len(facts.gates)]
    return replace(
        facts, path=path, token=token, turn=turn, attempt=attempt, lost=lost, at=at, numbers=numbers,
        lost_since=lost_since,
    )  # fmt: skip
