"""Steps: what a run remembers. Every write of a turn takes the run's row under its turn and token: the fence."""

from dataclasses import dataclass

from celeryflows.codec import check_open
from celeryflows.model.branches import lineage
from celeryflows.model.steps import Amount, Memo, Memos, State
from celeryflows.store.events import read_event
from celeryflows.store.executor import Row, Verbs

# A step whose arguments are recorded with it says so in one column more: no other pays for that.
_COLUMNS = "run_id, key, kind, state, attempts, value, turn, began, ended_at, took, due_at"
_AGAIN = """
ON CONFLICT (run_id, key) DO UPDATE SET state = excluded.state, value = excluded.value, attempts = excluded.attempts,
  turn = excluded.turn, ended_at = excluded.ended_at, took = excluded.took, due_at = excluded.due_at{given}
  WHERE flows_steps.state IN ('retrying', 'waiting', 'edited')"""
AGAIN, AGAIN_GIVEN = _AGAIN.format(given=""), _AGAIN.format(given=", given = excluded.given")


def _record(unit: str, columns: str, values: str, again: str) -> str:
    """One statement that takes the row of `unit` and writes the step, with columns beside those that all have.

    The row lock is the fence: without it, the check and the insert are not one instant, and a zombie's value may land
    after the next turn has read its memos. FOR KEY SHARE is not enough: a claim changes no key column."""
    return f"""
WITH fence AS {{materialized}} (
  SELECT {unit} AND turn = :turn AND claim_tok = :token AND status = 'running' {{share}})
INSERT INTO flows_steps ({_COLUMNS}{columns})
SELECT fence.id, :key, :kind, :state, CAST(:attempts AS integer), CAST(:value AS text), CAST(:turn AS integer),
  CAST(:began AS bigint), {{now}}, CAST(:took AS bigint), CAST(:due AS bigint){values} FROM fence WHERE true{again}
RETURNING ended_at
"""


def _put(columns: str, values: str, again: str) -> str:
    """Within a transaction that holds the run's or the branch's row already."""
    return f"""
INSERT INTO flows_steps ({_COLUMNS}, branch{columns})
VALUES (:run, :key, :kind, :state, :attempts, :value, :turn, :began, {{now}}, :took, :due, :branch{values}){again}
"""


_RUN = "id FROM flows_runs WHERE id = :run"
# Of a branch: its own row is the fence.
_BRANCH = "run_id AS id FROM flows_branches WHERE run_id = :run AND path = :branch"
_ITS_BRANCH, _ITS_GIVEN = ", CAST(:branch AS varchar)", ", CAST(:given AS text)"
RECORD = _record(_RUN, "", "", AGAIN)
RECORD_GIVEN = _record(_RUN, ", given", _ITS_GIVEN, AGAIN_GIVEN)
RECORD_IN_BRANCH = _record(_BRANCH, ", branch", _ITS_BRANCH, AGAIN)
RECORD_GIVEN_IN_BRANCH = _record(_BRANCH, ", branch, given", _ITS_BRANCH + _ITS_GIVEN, AGAIN_GIVEN)
PUT, PUT_GIVEN = _put("", "", AGAIN), _put(", given", ", :given", AGAIN_GIVEN)

MEMOS = """
SELECT s.key, s.kind, s.state, s.attempts, s.value, s.began, s.turn, s.due_at, w.state,
  e.id, e.ext_id, e.name, e.data, e.ts, e.v, e.arrived_at, w.due_at, w.name
FROM flows_steps s LEFT JOIN flows_waits w ON w.run_id = s.run_id AND w.key = s.key
LEFT JOIN flows_events e ON e.id = w.event_id WHERE s.run_id = :run AND s.branch = ''
"""

# A branch remembers what was before its group and what it did itself; of what others do only how much it is.
MEMOS_OF_BRANCH = MEMOS.replace("s.branch = ''", "(s.branch = '' OR s.branch {in_texts:lineage})").replace(
    """w.name
FROM flows_steps s""",
    """w.name, elsewhere.steps, elsewhere.bytes
FROM (SELECT count(*) AS steps, COALESCE(sum({value_bytes}), 0) AS bytes FROM flows_steps o
  WHERE o.run_id = :run AND o.branch <> '' AND NOT o.branch {in_texts:lineage}) elsewhere CROSS JOIN flows_steps s""",
)

READ_BACK = """
SELECT r.turn, r.claim_tok, r.status, r.reason, s.state, s.value, s.ended_at
FROM flows_runs r LEFT JOIN flows_steps s ON s.run_id = r.id AND s.key = :key WHERE r.id = :run
"""

READ_BACK_IN_BRANCH = """
SELECT b.turn, b.claim_tok, b.status, NULL, s.state, s.value, s.ended_at FROM flows_branches b
LEFT JOIN flows_steps s ON s.run_id = b.run_id AND s.key = :key WHERE b.run_id = :run AND b.path = :branch
"""


# An attempt after which another comes, once however often its step is written while it waits.
TRIED = """
INSERT INTO flows_attempts (run_id, key, attempt, value, ended_at, took)
VALUES (:run, :key, :attempts, :value, {now}, :took) ON CONFLICT (run_id, key, attempt) DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class StepRow:
    """One step to write. Times in microseconds; `took` is how long the attempt ran, `branch` the path of its branch,
    `given` what it was called with, where that is recorded."""

    run: str
    turn: int
    token: int
    key: str
    kind: str
    state: str
    attempts: int
    value: str | None
    began: int
    took: int | None = None
    due: int | None = None
    branch: str = ""
    given: str | None = None

    def params(self) -> dict[str, object]:
        """The parameters of the statement."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class ReadBack:
    """How the run or branch and the step stand, after a write that took no row."""

    turn: int
    token: int | None
    status: str
    reason: str | None
    state: str | None
    value: str | None
    ended_at: int | None


class Steps(Verbs):
    """The verbs of steps."""

    def record(self, row: StepRow) -> int | None:
        """One statement, one commit: the store's clock when it is recorded, None when the fence or a memo refused."""
        if row.given is None:
            rows = self._execute_hot(RECORD_IN_BRANCH if row.branch else RECORD, **row.params())
        else:
            rows = self._execute(RECORD_GIVEN_IN_BRANCH if row.branch else RECORD_GIVEN, **row.params())
        return rows[0][0] if rows else None

    def put(self, rows: list[StepRow]) -> None:
        """Write steps in a transaction that holds their run's row under its turn."""
        for row in rows:
            self._execute(PUT if row.given is None else PUT_GIVEN, **row.params())
            if row.state == State.RETRYING:
                self._execute(TRIED, **row.params())

    def put_attempt(self, run_id: str, path: str, attempt: int, error: str) -> None:
        """Keep a failed attempt of the body of a run or branch, after which another comes."""
        self._execute(TRIED, run=run_id, key=path, attempts=attempt, value=error, took=None)

    def settle(self, run_id: str, key: str, state: str, value: str) -> None:
        """What a step waited for is there: of a run whose row is locked, and whose wait was just answered."""
        self._execute(
            "UPDATE flows_steps SET state = :state, value = :value, attempts = 1, ended_at = {now} "
            "WHERE run_id = :run AND key = :key AND state = 'waiting'",
            run=run_id,
            key=key,
            state=state,
            value=value,
        )

    def last_end(self, run_id: str, branch: str) -> int | None:
        """When a step of the run itself, or of the branch, was last recorded."""
        rows = self._execute(
            "SELECT max(ended_at) FROM flows_steps WHERE run_id = :run AND branch = :branch", run=run_id, branch=branch
        )
        return None if rows[0][0] is None else int(rows[0][0])

    def bytes_of(self, run_id: str) -> int:
        """How long the values of a run's steps are together, in bytes."""
        rows = self._execute(
            "SELECT COALESCE(sum({value_bytes}), 0) FROM flows_steps o WHERE o.run_id = :run", run=run_id
        )
        return int(rows[0][0])

    def put_late(self, row: StepRow) -> None:
        """Keep the value of a step that ended after its run was cancelled; it changes nothing."""
        self._execute(
            "INSERT INTO flows_steps (run_id, key, kind, state, attempts, value, turn, began, ended_at, took, branch) "
            "VALUES (:run, :key, :kind, 'late', :attempts, :value, :turn, :began, {now}, :took, :branch) "
            "ON CONFLICT (run_id, key) DO NOTHING",
            **row.params(),
        )

    def memos(self, run_id: str, branch: str = "") -> Memos:
        """All that the run or the branch remembers, by key. A later statement than the claim, or it may be stale."""
        if branch:
            rows = self._execute(MEMOS_OF_BRANCH, run=run_id, lineage=self._array(lineage(branch)))
        else:
            rows = self._execute_hot(MEMOS, run=run_id)
        found = Memos((row[0], _memo(row)) for row in rows)
        if branch and rows:
            found.elsewhere = Amount(rows[0][18], int(rows[0][19]))
        return found

    def read_back(self, run_id: str, key: str, branch: str = "") -> ReadBack | None:
        """How the step and its run or branch stand now; None when that is gone."""
        rows = self._execute(READ_BACK_IN_BRANCH if branch else READ_BACK, run=run_id, key=key, branch=branch)
        return ReadBack(*rows[0]) if rows else None


def _memo(row: Row) -> Memo:
    check_open(row[4])
    event = read_event(row[9:15]) if row[9] is not None else None
    settled_at = row[15] if event is not None else row[16] if row[8] == "expired" else None
    return Memo(*(*row[:9], event, settled_at, row[17]))
