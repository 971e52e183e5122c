"""Tasks that runs have sent out. Each has a wait of its run, by its id: who answers, expires or closes that is told."""

from collections.abc import Sequence
from dataclasses import dataclass

from celeryflows.durations import SECOND
from celeryflows.ids import derived_id
from celeryflows.model.remote_tasks import NewTask, SentTask
from celeryflows.store.columns import ALONG, ALONG_WAITS
from celeryflows.store.executor import Verbs
from celeryflows.store.runs import Claim

# A message that was lost on its way is looked for after this long.
FIRST_LOOK = 5 * SECOND

ADD = """
INSERT INTO flows_tasks (id, run_id, key, queue, input, sent_at, next_at)
VALUES (:id, :run, :key, :queue, :input, {now}, {now} + :first_look) ON CONFLICT DO NOTHING
"""

ARM = """
INSERT INTO flows_waits (id, run_id, key, kind, name, path, hash, value, began, armed_at, state, due_at, branch)
VALUES (:wait, :run, :key, 'task', :id, :place, 0, '', :began, {now}, 'open', :due, :branch)
ON CONFLICT (run_id, key) DO NOTHING
"""

SENT = """
SELECT t.id, t.run_id, t.key, t.queue, t.input, r.flow, r.message, t.sent_at, t.sends, {now} - t.sent_at,
  COALESCE(w.state, 'closed')
FROM flows_tasks t JOIN flows_runs r ON r.id = t.run_id
LEFT JOIN flows_waits w ON w.run_id = t.run_id AND w.key = t.key
"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """The open wait for a task: whose it is, and where in its canvas the task stands."""

    task_id: str
    run_id: str
    key: str
    branch: str
    place: str

    @property
    def unit(self) -> tuple[str, str]:
        """Who waits."""
        return self.run_id, self.branch


class Tasks(Verbs):
    """The verbs of tasks. Who answers holds the waiting run's row."""

    def arm(self, claim: Claim, tasks: Sequence[tuple[NewTask, int | None]]) -> None:
        """Write tasks of a locked run and the waits for them, each with its timeout; left as they stand when the run
        has them already."""
        own = [{"id": task.id, "run": claim.run_id, "key": task.key} for task, _ in tasks]
        sent = [
            {**ids, "queue": task.parcel.queue, "input": task.parcel.text, "first_look": FIRST_LOOK}
            for ids, (task, _) in zip(own, tasks, strict=True)
        ]
        waits = [
            {
                **ids,
                "wait": derived_id("wait", claim.run_id, task.key),
                "place": task.place,
                "began": task.began,
                "due": due,
                "branch": claim.path,
            }
            for ids, (task, due) in zip(own, tasks, strict=True)
        ]
        self._insert(ADD, sent, frozenset({"first_look"}))
        self._insert(ARM, waits, frozenset({"began", "due"}))

    def waiting(self, task_id: str) -> Waiting | None:
        """Who waits for the task, None when nobody does any more."""
        rows = self._execute(
            "SELECT run_id, key, branch, path FROM flows_waits "
            f"WHERE name = :id AND hash = 0 AND kind = 'task' AND state = 'open' AND {ALONG_WAITS} LIMIT 1",
            id=task_id,
        )
        return Waiting(task_id, *rows[0]) if rows else None

    def answer(self, waiting: Waiting) -> bool:
        """Answer the wait of a locked run; False when it was over before."""
        answered = self._execute(
            "UPDATE flows_waits SET state = 'answered' WHERE run_id = :run AND key = :key AND kind = 'task' "
            "AND name = :id AND state = 'open' RETURNING id",
            run=waiting.run_id,
            key=waiting.key,
            id=waiting.task_id,
        )
        if answered:
            self.forget([waiting.task_id])
        return bool(answered)

    def waits_beside(self, waiting: Waiting) -> bool:
        """True when nothing can follow yet: the task is one of a group, others of which have not answered."""
        around, _, last = waiting.place.rpartition(".")
        if not last.startswith("p"):
            return False
        canvas = waiting.key[: waiting.key.rfind("/") + 1]
        return bool(
            self._execute(
                "SELECT 1 FROM flows_waits WHERE run_id = :run AND kind = 'task' AND state = 'open' "
                "AND substr(key, 1, length(CAST(:canvas AS varchar))) = CAST(:canvas AS varchar) "
                "AND substr(path, 1, length(CAST(:beside AS varchar))) = CAST(:beside AS varchar) LIMIT 1",
                run=waiting.run_id,
                canvas=canvas,
                beside=f"{around}.p" if around else "p",
            )
        )

    def due(self, limit: int) -> list[SentTask]:
        """Tasks of which nothing was heard for a while, the longest first; those whose wait is over among them."""
        rows = self._execute(
            f"{SENT} WHERE t.next_at <= {{by_now}} AND t.{ALONG} ORDER BY t.next_at LIMIT :most", most=limit
        )
        return [SentTask(*row) for row in rows]

    def left_over(self, run_ids: Sequence[str]) -> list[str]:
        """Tasks of these runs that nobody waits for any more."""
        rows = self._execute(
            "SELECT t.id FROM flows_tasks t JOIN flows_waits w ON w.run_id = t.run_id AND w.key = t.key "
            "WHERE t.run_id {in_texts:runs} AND t.next_at IS NOT NULL AND w.state IN ('closed', 'expired') "
            "ORDER BY t.id",
            runs=self._array(run_ids),
        )
        return [row[0] for row in rows]

    def closed(self, run_id: str) -> list[str]:
        """The tasks of a run that it waited for when it ended."""
        rows = self._execute(
            "SELECT name FROM flows_waits WHERE run_id = :run AND kind = 'task' AND state = 'closed' ORDER BY key",
            run=run_id,
        )
        return [row[0] for row in rows]

    def forget(self, task_ids: Sequence[str]) -> None:
        """Nobody looks after them any more."""
        self._execute(
            "UPDATE flows_tasks SET next_at = NULL WHERE id {in_texts:ids}", ids=self._array(sorted(task_ids))
        )

    def put_off(self, task_id: str, sends: int, wait: int) -> None:
        """Look again after `wait` microseconds, unless it was sent again meanwhile."""
        self._execute(
            "UPDATE flows_tasks SET next_at = {now} + :wait WHERE id = :id AND sends = :sends AND next_at IS NOT NULL",
            id=task_id,
            sends=sends,
            wait=wait,
        )

    def send_again(self, task_id: str, sends: int, wait: int) -> bool:
        """It is sent once more, and looked for after `wait`; False when somebody else did, or it was answered."""
        rows = self._execute(
            "UPDATE flows_tasks SET sends = sends + 1, sent_at = {now}, next_at = {now} + :wait "
            "WHERE id = :id AND sends = :sends AND next_at IS NOT NULL RETURNING id",
            id=task_id,
            sends=sends,
            wait=wait,
        )
        return bool(rows)

    def overtaken(self, queue: str, sent_at: int) -> bool:
        """True when a task that was sent to the queue after that moment has answered."""
        rows = self._execute(
            "SELECT 1 FROM flows_tasks t JOIN flows_waits w ON w.run_id = t.run_id AND w.key = t.key "
            "WHERE t.queue = :queue AND t.sent_at > :after AND w.state = 'answered' LIMIT 1",
            queue=queue,
            after=sent_at,
        )
        return bool(rows)
