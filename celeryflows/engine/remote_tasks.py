"""Existing Celery tasks as steps: sent after the commit of the turn that waits for them, answered once.

An answer comes by the worker of the task, by a message, or from the result backend; a compare-and-set makes one of them
the step's."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from celeryflows.engine.aftermath import left_to_recovery
from celeryflows.engine.budget import past_bound, size_of
from celeryflows.engine.failures import failure_of, failure_text
from celeryflows.engine.leaving import send_off
from celeryflows.engine.runtime import Runtime
from celeryflows.engine.units import lock_units, queue_units
from celeryflows.errors import BoundExceeded, LostTurn
from celeryflows.ids import derived_id, seeded_ids
from celeryflows.model.remote_tasks import NewTask, Outcome, SentTask
from celeryflows.model.runs import Delivery
from celeryflows.model.steps import State
from celeryflows.store.connection import Connection
from celeryflows.store.runs import Claim
from celeryflows.store.tasks import Waiting

logger = logging.getLogger("celeryflows")

REMEDY = "Let the task return a key instead,"


def remote_id(run_id: str, key: str, began: int) -> str:
    """The task's id follows from run and step, so that whoever sends it again sends the same task."""
    return next(seeded_ids(began // 1000, derived_id("task", run_id, key).encode()))


def send_out(runtime: Runtime, claim: Claim, tasks: Sequence[NewTask]) -> None:
    """After the commit: send what was written, or call it where there is no worker."""
    sent = [
        SentTask(one.id, claim.run_id, one.key, one.parcel.queue, one.parcel.text, claim.flow, claim.message)
        for one in tasks
    ]
    if runtime.tasks.in_place:
        for task in sent:
            answer(runtime, task.id, _call(runtime, claim, task))
        return
    runtime.tasks.send(sent)
    # Who cancelled the run between its commit and the messages had nothing to revoke.
    recall(runtime, [claim.run_id])


def _call(runtime: Runtime, claim: Claim, task: SentTask) -> Outcome:
    def body(*_: Any) -> str:
        return runtime.tasks.call(task)

    called = _intercepted(runtime, claim, task.key, body)
    while True:
        try:
            return Outcome(value=called())
        except LostTurn:
            # A test lets its worker die before the answer: the message is delivered again.
            continue
        except Exception as error:
            return Outcome(error=failure_text(failure_of(error, task.key)))


def _intercepted(runtime: Runtime, claim: Claim, key: str, body: Callable[..., str]) -> Callable[..., str]:
    return body if runtime.interceptor is None else runtime.interceptor.body(claim, key, body)


def answer(runtime: Runtime, task_id: str, outcome: Outcome) -> bool:
    """A task has ended: its step gets the value or error, and its run goes on. False when nobody waits any more.

    Raises StoreError; then the answer is not taken, and may be given again.
    """
    woken: list[Delivery] = []
    with runtime.store.connection() as connection:
        waiting = connection.repeat(lambda: connection.tasks.waiting(task_id))
        if waiting is None:
            return False
        connection.transact(lambda tx: _settle(runtime, tx, waiting, outcome, woken))
    if woken:
        send_off(runtime, woken)
    return True


def _settle(runtime: Runtime, tx: Connection, waiting: Waiting, outcome: Outcome, woken: list[Delivery]) -> None:
    lock_units(tx, [waiting.unit])
    if not tx.tasks.answer(waiting):
        # A try whose reply was lost has put the messages there.
        return
    tx.steps.settle(waiting.run_id, waiting.key, *_fitting(runtime, tx, waiting, outcome))
    woken[:] = [] if tx.tasks.waits_beside(waiting) else queue_units(tx, [waiting.unit])


def _fitting(runtime: Runtime, tx: Connection, waiting: Waiting, outcome: Outcome) -> tuple[State, str]:
    if outcome.error is not None:
        return State.FAILED, outcome.error
    text, settings = outcome.value or "null", runtime.settings
    over = past_bound(settings, text, lambda: tx.steps.bytes_of(waiting.run_id), REMEDY)
    if size_of(text) > settings.max_value_bytes:
        remedy = f"{REMEDY} or raise flows_max_value_bytes."
        over = BoundExceeded(f"step {waiting.key!r}: value bytes", settings.max_value_bytes, size_of(text), remedy)
    return (State.DONE, text) if over is None else (State.FAILED, failure_text(failure_of(over, waiting.key)))


def recall(runtime: Runtime, run_ids: Sequence[str]) -> None:
    """Revoke what these runs have sent and do not wait for any more; what is missed, recovery revokes."""
    if runtime.tasks.in_place or not run_ids:
        return
    with left_to_recovery(), runtime.store.connection() as connection:
        left = connection.repeat(lambda: connection.tasks.left_over(run_ids))
        if left:
            runtime.tasks.revoke(left)
            connection.repeat(lambda: connection.tasks.forget(left))
