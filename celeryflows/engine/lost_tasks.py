"""Tasks of which nothing is heard: whose answer, message or worker was lost. Asked after, sent again, or given up."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

from celeryflows.durations import SECOND
from celeryflows.engine.failures import failure_text
from celeryflows.engine.remote_tasks import answer
from celeryflows.engine.runtime import Runtime
from celeryflows.model.remote_tasks import Outcome, SentTask
from celeryflows.model.runs import Status
from celeryflows.model.steps import Failure

logger = logging.getLogger("celeryflows")

BATCH = 100
# Between two looks at a task that somebody has, or may have: half of its age, within these.
LEAST, MOST = 5 * SECOND, 60 * SECOND
# Between two looks at one that nobody seems to have: its answer may be on its way.
AGAIN = 2 * SECOND
# A task that was sent so much later to the same queue and has answered tells that ours is not in the queue any more.
OVERTAKEN_BY = 30 * SECOND

# Those tasks whose answers may be in the queues by which they would come.
MayBeAnswered = Callable[[Sequence[SentTask]], set[str]]


@dataclass(slots=True)
class LostTasks:
    """Looks after tasks, a batch at a time. `gate` is held around work on the store, and never while others are asked.

    `may_be_answered` is asked before a task that nobody has is sent again: in the second look that finds it so.
    """

    runtime: Runtime
    gate: AbstractContextManager[Any]
    may_be_answered: MayBeAnswered
    _gone: set[tuple[str, int]] = field(default_factory=set)

    def look(self) -> int:
        """Look at those that are due; how many they were. Raises StoreError."""
        with self.gate, self.runtime.store.connection() as connection:
            due = [self._marked(connection.tasks.overtaken, one) for one in connection.tasks.due(BATCH)]
        if due:
            self._drop([one for one in due if one.wait != "open"])
            silent = [one for one in due if one.wait == "open" and not self._ended(one)]
            self._settle(silent, self.runtime.tasks.missing(silent) if silent else set())
        return len(due)

    def _marked(self, overtaken: Callable[[str, int], bool], task: SentTask) -> SentTask:
        later = task.age > OVERTAKEN_BY and overtaken(task.queue, task.sent_at + OVERTAKEN_BY)
        return replace(task, overtaken=True) if later else task

    def _drop(self, over: list[SentTask]) -> None:
        """Nobody waits for these any more."""
        if over:
            self.runtime.tasks.revoke([one.id for one in over])
            with self.gate, self.runtime.store.connection() as connection:
                connection.tasks.forget([one.id for one in over])

    def _ended(self, task: SentTask) -> bool:
        """Both callbacks were lost, or neither could be called; the store or the result backend has kept the end."""
        outcome = self._as_a_run(task) or self.runtime.tasks.outcome(task.id)
        if outcome is None:
            return False
        with self.gate:
            answer(self.runtime, task.id, outcome)
        return True

    def _as_a_run(self, task: SentTask) -> Outcome | None:
        """A task with limits, or a durable one, is a run: one that was skipped or cancelled calls nobody back."""
        with self.gate, self.runtime.store.connection() as connection:
            found = connection.runs.outcome(task.id)
        if found is None or found.ended_at is None or found.continued_as is not None:
            return None
        if found.status == Status.COMPLETED:
            return Outcome(value=found.output)
        reason = failure_text(Failure("TaskRevokedError", found.reason or found.status))
        return Outcome(error=found.error if found.status == Status.FAILED else reason)

    def _settle(self, silent: list[SentTask], missing: set[str]) -> None:
        gone = [task for task in silent if task.id in missing and (task.id, task.sends) in self._gone]
        on_its_way = self.may_be_answered(gone) if gone else set()
        lost = [task for task in gone if task.id not in on_its_way]
        self._gone -= {(task.id, task.sends) for task in silent if task in lost or task.id not in missing}
        for task in silent:
            if task.id not in missing:
                self._put_off(task, min(max(task.age // 2, LEAST), MOST))
            elif task not in lost:
                self._gone.add((task.id, task.sends))
                self._put_off(task, AGAIN)
        self._send_again(lost)

    def _put_off(self, task: SentTask, wait: int) -> None:
        with self.gate, self.runtime.store.connection() as connection:
            connection.tasks.put_off(task.id, task.sends, wait)

    def _send_again(self, lost: list[SentTask]) -> None:
        again = []
        with self.gate:
            for task in lost:
                if task.sends >= self.runtime.settings.max_lost:
                    answer(self.runtime, task.id, Outcome(error=failure_text(_given_up(task))))
                elif self._take(task):
                    again.append(task)
            if again:
                logger.warning("sending %d tasks again that neither a queue nor a worker has", len(again))
                self.runtime.tasks.send(again)

    def _take(self, task: SentTask) -> bool:
        with self.runtime.store.connection() as connection:
            return connection.tasks.send_again(task.id, task.sends, LEAST * 2 ** min(task.sends, 10))


def _given_up(task: SentTask) -> Failure:
    return Failure(
        "TaskLost",
        f"it was sent {task.sends} times and has not answered: it was killed each time, or ends by Ignore or Reject, "
        "after which Celery tells nobody",
    )
