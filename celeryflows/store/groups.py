"""Groups: how many of their branches are out, and how those that ended did. A group's row lock makes one the last."""

from collections.abc import Sequence
from dataclasses import dataclass

from celeryflows.codec import check_open
from celeryflows.model.branches import NewGroup, index_of
from celeryflows.model.runs import Status
from celeryflows.model.steps import Amount
from celeryflows.store.executor import Verbs
from celeryflows.store.runs import Claim

OPEN, DONE, WON = "open", "done", "won"
NONE = Amount(0, 0)

OPEN_GROUP = """
INSERT INTO flows_groups (run_id, path, kind, state, remaining, began)
VALUES (:run, :path, :kind, 'open', :count, {now}) ON CONFLICT DO NOTHING RETURNING path
"""

OPEN_BRANCHES = """
INSERT INTO flows_branches (run_id, path, group_path, parent_path, idx, status, created_at, sent_at)
SELECT :run, CAST(:path AS varchar) || '[' || each.value || ']', :path, :parent, CAST(each.value AS integer), 'queued',
  {now}, {now} FROM {each_text:numbers} WHERE true ON CONFLICT DO NOTHING
"""
OPEN_LIMITED = """
INSERT INTO flows_branches (run_id, path, group_path, parent_path, idx, status, created_at, held_at, g1, g2)
SELECT :run, CAST(:path AS varchar) || '[' || each.value || ']', :path, :parent, CAST(each.value AS integer), 'queued',
  {now}, '0', :gate, :further FROM {each_text:numbers} WHERE true ON CONFLICT DO NOTHING
"""

# Whoever opens the group has the first ones at once: when its process dies, they are found like any that run. The loss
# of one that had not begun is no loss of its own.
OPEN_CLAIMED = """
INSERT INTO flows_branches (run_id, path, group_path, parent_path, idx, created_at, sent_at, carrier,
  status, turn, worker, claim_tok, started_at, lost, lost_at)
SELECT :run, CAST(:path AS varchar) || '[' || each.value || ']', :path, :parent, CAST(each.value AS integer),
  {now}, {now}, CAST(:carrier AS varchar), 'running', 1, CAST(:worker AS varchar), CAST(:token AS bigint), {now},
  CASE WHEN each.value = '0' THEN 0 ELSE -1 END, CASE WHEN each.value = '0' THEN NULL ELSE 0 END
FROM {each_text:claimed} WHERE true ON CONFLICT DO NOTHING
"""

ARRIVE = """
UPDATE flows_groups SET remaining = remaining - :count,
  state = CASE WHEN kind = 'race' THEN 'won' WHEN remaining = :count THEN 'done' ELSE 'open' END,
  winner = CASE WHEN kind = 'race' THEN CAST(:idx AS integer) END
WHERE run_id = :run AND path = :path AND state = 'open' RETURNING state
"""

# What an answered wait of a branch took came before the group ended: a wait that follows looks from there on.
STANDING = """
WITH below AS {materialized} (SELECT count(*) AS steps, COALESCE(sum({value_bytes}), 0) AS bytes FROM flows_steps o
  WHERE o.run_id = :run AND substr(o.branch, 1, length(CAST(:path AS varchar)) + 1) = CAST(:path AS varchar) || '[')
SELECT g.state, g.winner, b.idx, b.status, b.value, b.error,
  (SELECT min(e.arrived_at) FROM flows_waits w JOIN flows_events e ON e.id = w.event_id
   WHERE w.run_id = g.run_id AND w.branch <> '' AND substr(w.branch, 1, length(g.path) + 1) = g.path || '['),
  below.steps, below.bytes
FROM flows_groups g JOIN flows_branches b ON b.run_id = g.run_id AND b.group_path = g.path CROSS JOIN below
WHERE g.run_id = :run AND g.path = :path ORDER BY b.idx
"""


@dataclass(frozen=True, slots=True)
class BranchEnd:
    """A branch that ended: its value or its error, as JSON."""

    idx: int
    status: str
    value: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class GroupStanding:
    """How a group stands. `settled_at`: when the first event came that a wait of its branches took; `below`: what its
    branches did."""

    state: str
    winner: int | None
    ends: tuple[BranchEnd, ...]
    settled_at: int | None
    below: Amount = NONE

    @property
    def is_open(self) -> bool:
        """True while it is waited for."""
        return self.state == OPEN


class Groups(Verbs):
    """The verbs of groups."""

    def open(self, claim: Claim, group: NewGroup, claimed: Sequence[Claim] = (), *, carrier: str = "") -> bool:
        """Write a group and its branches, in the suspension of its parent; False leaves them as they stand.

        All are queued, but the first ones that are `claimed`, whose turns the message of `carrier` carries; those of a
        run with limits stand at the door.
        """
        run_id = claim.run_id
        if not self._execute(OPEN_GROUP, run=run_id, path=group.path, kind=group.kind, count=group.count):
            return False
        words = {"run": run_id, "path": group.path, "parent": claim.path}
        words["numbers"] = self._array([str(number) for number in range(len(claimed), group.count)])
        if claim.gates:
            further = claim.gates[1] if len(claim.gates) > 1 else None
            self._execute(OPEN_LIMITED, **words, gate=claim.gates[0], further=further)
            return True
        if claimed:
            first = claimed[0]
            numbers = self._array([str(number) for number in range(len(claimed))])
            mine = {"worker": first.worker, "token": first.token, "carrier": carrier, "claimed": numbers}
            self._execute(OPEN_CLAIMED, **mine, **{name: words[name] for name in ("run", "path", "parent")})
        if len(claimed) < group.count:
            self._execute(OPEN_BRANCHES, **words)
        return True

    def arrive(self, run_id: str, group: str, branch: str, *, count: int = 1) -> str | None:
        """A branch ends, or `count` of a parallel group: how the group stands with that, None when it was over before.
        Locks the group (class 3)."""
        rows = self._execute(ARRIVE, run=run_id, path=group, idx=index_of(branch), count=count)
        return rows[0][0] if rows else None

    def settled(self, run_id: str, paths: list[str]) -> bool:
        """True when one of these is over; read after their parent's row is locked."""
        return bool(
            self._execute(
                "SELECT 1 FROM flows_groups WHERE run_id = :run AND path {in_texts:paths} AND state <> 'open' LIMIT 1",
                run=run_id,
                paths=self._array(paths),
            )
        )

    def standing(self, run_id: str, group: str) -> GroupStanding | None:
        """How it stands with all that ended, None when there is no such group. Raises PayloadLocked."""
        rows = self._execute(STANDING, run=run_id, path=group)
        if not rows:
            return None
        for row in rows:
            check_open(row[4])
            check_open(row[5])
        ends = tuple(BranchEnd(*row[2:6]) for row in rows if row[3] in (Status.COMPLETED, Status.FAILED))
        below = Amount(rows[0][7], int(rows[0][8]))
        return GroupStanding(rows[0][0], rows[0][1], ends, rows[0][6], below)
