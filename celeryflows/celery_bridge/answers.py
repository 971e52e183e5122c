"""How a task of a run answers: callbacks that take the value where our extension is, and else a message to our queue.

Where a worker has our extension, Celery finds the callback's task there, which answers in place of being sent."""

import logging
import time
from collections.abc import Mapping
from typing import Any, Protocol, cast

from celery import Celery, signals
from celery.canvas import maybe_signature
from celery.exceptions import Reject, TaskRevokedError
from celery.utils import uuid
from kombu.utils import json

from celeryflows.celery_bridge.fork_gate import GATE
from celeryflows.codec import dumps
from celeryflows.engine.failures import failure_of, failure_text, storable
from celeryflows.errors import NotStorable, StoreError
from celeryflows.model.remote_tasks import Outcome
from celeryflows.model.steps import Failure

logger = logging.getLogger("celeryflows")

ANSWER, FAILED = "celeryflows.answer", "celeryflows.answer_failed"
REST = 1.0


class Host(Protocol):
    """What takes the answers."""

    app: Celery

    def answered(self, task_id: str, outcome: Outcome) -> bool: ...
    def outcome_of(self, task_id: str) -> Outcome | None: ...


def linked(options: Mapping[str, Any], task_id: str, queue: str) -> dict[str, Any]:
    """The callbacks of a task: those that it has, and ours, which come by the queue where nobody answers in place."""
    answer = _signature(ANSWER, {"task_id": task_id}, queue)
    # An errback gets the id alone where its task is not known: it must not need more.
    failed = _signature(FAILED, {}, queue)
    return {"link": [*_listed(options, "link"), answer], "link_error": [*_listed(options, "link_error"), failed]}


def _signature(task: str, kwargs: dict[str, Any], queue: str) -> dict[str, Any]:
    options = {"queue": queue, "ignore_result": True}
    return {"task": task, "args": (), "kwargs": kwargs, "options": options, "subtask_type": None, "immutable": False}


def _listed(options: Mapping[str, Any], name: str) -> list[Any]:
    found = options.get(name) or []
    return list(found) if isinstance(found, list | tuple) else [found]


def result_text(value: Any, what: str) -> str:
    """A task's value as stored: what only Celery's JSON takes, as that gives it back. Raises NotStorable."""
    try:
        return dumps(value, what=f"the value of task {what}")
    except NotStorable as refused:
        try:
            plain = json.loads(json.dumps(value))
        except Exception:
            raise refused from None
        return dumps(plain, what=f"the value of task {what}")


def error_text(error: Any, trace: Any = None) -> str:
    """A task's error as stored, with the traceback that its worker had."""
    if not isinstance(error, BaseException):
        return failure_text(Failure("TaskFailed", storable(str(error))))
    found = failure_of(error)
    # Celery wraps what it could not carry from one process to another.
    name = str(getattr(error, "exc_cls_name", found.name))
    stack = storable(str(trace)) if trace else found.stack
    return failure_text(Failure(name, found.message, stack))


def install_answers(host: Host) -> None:
    """Declare the tasks that take answers."""
    app = host.app
    options = {"shared": False, "acks_late": True, "ignore_result": True, "typing": False}

    def answer(value: Any, task_id: str) -> None:
        """A message from a worker without our extension: a task's value."""
        _take_or_return(host, task_id, _outcome(value, task_id))

    def answer_failed(task: Any, error: Any = None, trace: Any = None) -> None:
        """Called by a failing worker with request, error and traceback, or sent by one with the task's id alone."""
        if isinstance(task, str):
            _take_or_return(host, task, host.outcome_of(task) or Outcome(error=_unknown(task)))
        else:
            _take_failure(host, task.id, error_text(error, trace))

    def in_place(self: Any, args: Any = None, kwargs: Any = None, **more: Any) -> Any:
        value, task_id = (args or (None,))[0], (kwargs or {}).get("task_id", "")
        if not _take_here(host, task_id, _outcome(value, task_id)):
            return cast(Any, type(self).__mro__[1]).apply_async(self, args, kwargs, **more)
        return self.AsyncResult(more.get("task_id") or uuid())

    app.task(name=ANSWER, apply_async=in_place, **options)(answer)
    app.task(name=FAILED, **options)(answer_failed)
    signals.task_revoked.connect(lambda **told: _revoked(host, **told), weak=False, dispatch_uid=f"{id(host)} revoked")


def _revoked(host: Host, sender: Any = None, request: Any = None, expired: bool = False, **_: Any) -> None:
    """No callback is called then."""
    ours = getattr(sender, "app", None) is host.app and getattr(request, "errbacks", None)
    if ours and any(maybe_signature(one, app=host.app).task == FAILED for one in ours):
        _take_failure(host, request.id, error_text(TaskRevokedError("expired" if expired else "revoked")))


def _outcome(value: Any, task_id: str) -> Outcome:
    try:
        return Outcome(value=result_text(value, task_id))
    except NotStorable as error:
        return Outcome(error=error_text(error))


def _take_failure(host: Host, task_id: str, error: str) -> None:
    """Of a process that is killed the pool's parent tells, which may fork another meanwhile."""
    with GATE:
        _take_here(host, task_id, Outcome(error=error))


def _take_here(host: Host, task_id: str, outcome: Outcome) -> bool:
    """In the worker of the task; True when it needs no message."""
    try:
        host.answered(task_id, outcome)
    except Exception as error:
        logger.warning("the answer of task %s was not taken here, it is sent or asked for later: %s", task_id, error)
        return False
    return True


def _take_or_return(host: Host, task_id: str, outcome: Outcome) -> None:
    """In a worker of ours; while the store is away the message goes back to its queue."""
    try:
        host.answered(task_id, outcome)
    except StoreError as error:
        logger.warning("the answer of task %s waits for the store: %s", task_id, error)
        time.sleep(REST)
        raise Reject(str(error), requeue=True) from error


def _unknown(task_id: str) -> str:
    told = (
        f"the task {task_id} failed; its error is in the log of its worker, which has neither celeryflows nor a result "
        "backend that this app reads"
    )
    return failure_text(Failure("TaskFailed", told))
