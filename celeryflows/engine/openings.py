"""What a suspending turn opens beside waits for events: children, tasks, and waits for signals."""

from collections.abc import Sequence

from celeryflows.engine import telling
from celeryflows.engine.admission import Admitted
from celeryflows.engine.children import add_children, judge_children
from celeryflows.engine.debts import pay
from celeryflows.engine.finish import cancel
from celeryflows.engine.leaving import send_off
from celeryflows.engine.passage import Passage
from celeryflows.engine.pipeline import Judged
from celeryflows.engine.recording import Recorder
from celeryflows.engine.remote_tasks import send_out
from celeryflows.engine.routing import follow
from celeryflows.engine.signalling import arm_signals, lock_rivals
from celeryflows.engine.waiting import Pending
from celeryflows.model.runs import Delivery, Status
from celeryflows.store.connection import Connection


class Openings:
    """Of one suspension. `stripes` are to be held before `lock`, which comes before the run's own row."""

    def __init__(self, recorder: Recorder, pending: Sequence[Pending]) -> None:
        self._recorder = recorder
        self._pending = pending
        self._signals = [p.signal for p in pending if p.signal is not None]
        self._children = [(p.row.key, p.child) for p in pending if p.child is not None]
        self._tasks = [p.task for p in pending if p.task is not None]
        self._judged = Judged()
        self._admitted = Admitted()
        self._woken: list[Delivery] = []
        self.stripes = [signal.hash for signal in self._signals]

    def lock(self, tx: Connection, passage: Passage | None, *, again: bool) -> None:
        """Judge the children and pass the gates, then take the rows of this run, of those whose place it may take, and
        of those that the gates let in. `again`: not the first try."""
        claim = self._recorder.claim
        if self._children:
            judged = judge_children(self._recorder.runtime, tx, claim.run_id, self._children, passage, again=again)
            self._judged = judged if judged.starts else self._judged
        if passage is not None:
            passage.go()
        moved = set(passage.moved) if passage is not None else set()
        if self._children:
            moved |= {(run_id, "") for run_id in judged.others}
        if self._signals or moved:
            lock_rivals(tx, claim.unit, self._signals, moved)
        if passage is not None:
            passage.write()

    def open(self, tx: Connection, *, again: bool) -> bool:
        """Write them under the run's lock; True when a step of the run is over at once. `again`: not the first try."""
        claim = self._recorder.claim
        if self._children:
            self._admitted = add_children(tx, claim.run_id, self._children, self._judged)
        if self._tasks:
            tx.tasks.arm(claim, [(one.task, one.row.due) for one in self._pending if one.task is not None])
        if not self._signals:
            return False
        armed = arm_signals(tx, claim, self._pending, again=again)
        # A try whose reply was lost may have been made: what it woke is told too.
        self._woken += armed.woken
        return armed.settled

    def send_off(self) -> None:
        """After the commit: the messages of tasks and children, and of those who lost their place."""
        if not self._children and not self._signals and not self._tasks:
            return
        runtime = self._recorder.runtime
        follow(runtime, self._admitted)
        runs = self._admitted.runs
        send_off(runtime, [*(run.delivery for run in runs if run.may_start), *self._woken])
        for start in self._judged.starts:
            telling.routed([start.event], [start.run] if start.joined is None else [])
        for run in runs:
            if run.status is Status.SKIPPED:
                pay(runtime, run.id, cancel)
        if self._tasks:
            send_out(runtime, self._recorder.claim, self._tasks)
        opened = [p.row.key for p in self._pending if (p.child, p.signal, p.task) != (None, None, None)]
        self._recorder.tell_committed(opened)
