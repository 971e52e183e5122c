"""Runs that belong together: children of an invoke, successors, and what the end of one owes to the others."""

from collections.abc import Sequence
from dataclasses import dataclass

from celeryflows.model.runs import NewRun
from celeryflows.model.steps import branch_of
from celeryflows.store.executor import Verbs
from celeryflows.store.new_runs import limited, run_fields
from celeryflows.store.runs import FENCE, Claim
from celeryflows.store.waits import BOUND

END, LOSERS = "end", "losers"

ADD = """
INSERT INTO flows_runs (id, flow, version, status, event_id, message, wake_at, expires_at, reason, created_at,
  sent_at, ended_at, parent, parent_key, continued_from, owes)
VALUES (:id, :flow, :version, :status, :event_id, :message, :wake_at, :expires_at, :reason, {now},
  CASE WHEN CAST(:status AS varchar) = 'queued' THEN {now} END,
  CASE WHEN CAST(:status AS varchar) = 'skipped' THEN {now} END, :parent, :parent_key, :continued_from,
  CASE WHEN CAST(:status AS varchar) = 'skipped' AND CAST(:parent AS varchar) IS NOT NULL THEN 'end' END)
ON CONFLICT (id) DO NOTHING
"""
ADD_LIMITED = limited(ADD)

CHILDREN = """
SELECT r.id FROM flows_runs r JOIN flows_waits w ON w.run_id = r.parent AND w.key = r.parent_key
WHERE r.parent = :id AND w.kind = 'invoke' AND w.path = :bound
AND r.status IN ('scheduled', 'queued', 'running', 'suspended')
AND NOT EXISTS (
  SELECT 1 FROM flows_batch_events x WHERE x.run_id = r.id AND (x.parent IS NULL OR x.parent <> r.parent))
"""

CONTINUE = f"""
UPDATE flows_runs SET status = 'completed', worker = NULL, ended_at = {{now}}, output = NULL, error = NULL,
  n1 = NULL, n2 = NULL, continued_as = :next {FENCE} RETURNING parent, parent_key
"""


LAST = """
WITH RECURSIVE chain AS (
  SELECT id, continued_as FROM flows_runs WHERE id = :id
  UNION ALL SELECT r.id, r.continued_as FROM chain JOIN flows_runs r ON r.id = chain.continued_as)
SELECT id FROM chain WHERE continued_as IS NULL
"""


@dataclass(frozen=True, slots=True)
class Link:
    """What a new run belongs to: its parent and the parent's step, or the run that it goes on for."""

    parent: str | None = None
    parent_key: str | None = None
    continued_from: str | None = None


@dataclass(frozen=True, slots=True)
class Debt:
    """What a run has still to tell: its end to its parent, or to the children that are cancelled with it or with a
    branch that lost a race. `owes` says which."""

    run_id: str
    status: str
    output: str | None
    error: str | None
    reason: str | None
    parent: str | None
    parent_key: str | None
    owes: str


class Links(Verbs):
    """The verbs of linked runs."""

    def add(self, run: NewRun, link: Link) -> None:
        """Write a linked run; one whose id is there already is left as it is."""
        links = {name: getattr(link, name) for name in link.__slots__}
        self._execute(ADD if run.place is None else ADD_LIMITED, **run_fields(run), **links)

    def arm(self, wait_id: str, link: Link, child: str, *, due: int, began: int, bound: bool) -> None:
        """Open the parent's wait for its child."""
        self._execute(
            "INSERT INTO flows_waits (id, run_id, key, kind, name, path, hash, value, began, armed_at, state, due_at, "
            "branch) VALUES (:id, :parent, :key, 'invoke', :child, :path, 0, '', :began, {now}, 'open', :due, :branch) "
            "ON CONFLICT (run_id, key) DO NOTHING",
            id=wait_id,
            parent=link.parent,
            key=link.parent_key,
            branch=branch_of(link.parent_key or ""),
            child=child,
            path=BOUND if bound else "",
            began=began,
            due=due,
        )

    def continue_as(self, claim: Claim, next_id: str) -> Link | None:
        """running -> completed, to go on as another run, which takes its parent; None when the turn is past."""
        rows = self._execute(CONTINUE, id=claim.run_id, turn=claim.turn, token=claim.token, next=next_id)
        return Link(rows[0][0], rows[0][1], claim.run_id) if rows else None

    def last_of(self, run_id: str) -> str | None:
        """The run that goes on for this one by now, itself when none does; None when it is gone."""
        rows = self._execute(LAST, id=run_id)
        return rows[0][0] if rows else None

    def owing(self, older_than: int, limit: int) -> list[str]:
        """Runs that owe somebody; those that ended `older_than` microseconds ago, to leave those under way."""
        rows = self._execute(
            "SELECT id FROM flows_runs WHERE owes IS NOT NULL AND id > '' AND COALESCE(ended_at, 0) <= {now} - :age "
            "ORDER BY id LIMIT :most",
            age=older_than,
            most=limit,
        )
        return [row[0] for row in rows]

    def debt(self, run_id: str) -> Debt | None:
        """What the run owes, None when all is told."""
        rows = self._execute(
            "SELECT id, status, output, error, reason, parent, parent_key, owes FROM flows_runs "
            "WHERE id = :id AND owes IS NOT NULL",
            id=run_id,
        )
        return Debt(*rows[0]) if rows else None

    def owe_losers(self, run_id: str) -> None:
        """A branch of the locked run lost a race while it waited for a child that is bound to it."""
        self._execute("UPDATE flows_runs SET owes = COALESCE(owes, :losers) WHERE id = :id", id=run_id, losers=LOSERS)

    def settle(self, run_id: str, owes: str) -> bool:
        """All of this is told; False when another told it, or when the run owes more by now."""
        return bool(
            self._execute(
                "UPDATE flows_runs SET owes = NULL WHERE id = :id AND owes = :owes RETURNING id", id=run_id, owes=owes
            )
        )

    def answer(self, parent: str, key: str) -> bool:
        """Answer a locked parent's wait; False when it was over before."""
        return bool(
            self._execute(
                "UPDATE flows_waits SET state = 'answered' "
                "WHERE run_id = :run AND key = :key AND kind = 'invoke' AND state = 'open' RETURNING id",
                run=parent,
                key=key,
            )
        )

    def bound_children(self, run_id: str) -> Sequence[str]:
        """Open runs that are cancelled with this one."""
        rows = self._execute(f"{CHILDREN} ORDER BY r.id", id=run_id, bound=BOUND)
        return [row[0] for row in rows]

    def lost_children(self, run_id: str) -> Sequence[str]:
        """Open runs that are cancelled with a branch of this one, and that branch was."""
        rows = self._execute(
            f"{CHILDREN} AND EXISTS (SELECT 1 FROM flows_branches b WHERE b.run_id = w.run_id AND b.path = w.branch "
            "AND b.status = 'cancelled') ORDER BY r.id",
            id=run_id,
            bound=BOUND,
        )
        return [row[0] for row in rows]
