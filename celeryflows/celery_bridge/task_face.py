"""A run put under an existing task: its deliveries become turns, its own words (`self.retry`, hooks) go to the run."""

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

from celery import signals
from celery.app.task import Task
from celery.app.trace import task_has_custom
from celery.exceptions import Ignore, Reject, Retry
from celery.utils.imports import symbol_by_name

from celeryflows.celery_bridge.dispatcher import HEADER
from celeryflows.celery_bridge.flow_task import EventOf, Host, in_place, take_delivery
from celeryflows.celery_bridge.task_body import ASKED, ask_again, turn_of
from celeryflows.celery_bridge.task_options import OfTurn
from celeryflows.celery_bridge.task_request import RunRequest
from celeryflows.errors import StepMisuse, StoreError

PAUSE = 1.0
# Celery's hooks that get the call's arguments, and where these stand among theirs.
HOOKS = {"on_success": 2, "on_failure": 2, "after_return": 3}


class TaskFace:
    """What a task does with a message. `holds`: plain calls of it are runs too, for it has limits or is durable."""

    def __init__(self, host: Host, task: Any, event_of: EventOf) -> None:
        self._host = host
        self.task = task
        self.body: Callable[..., Any] = task.run
        self.holds = False
        self.is_durable = False
        self.event_of = event_of
        self._dress()

    def hold(self, *, durable: bool, early: bool) -> None:
        """From now on each call of the task is a run. `early`: its messages are acked before it runs, as it asks."""
        task, self.holds, self.is_durable = self.task, True, durable
        if not early:
            # A redelivered message finds its run taken: late acks lose and double nothing.
            task.acks_late = task.reject_on_worker_lost = True
        apply = task.apply
        task.apply = functools.wraps(apply)(lambda *args, **options: in_place(apply(*args, **options)))
        if durable:
            type(task).step = OfTurn(lambda one: _turn(one, "step").step)
            type(task).ctx = OfTurn(lambda one: _turn(one, "ctx"))

    def _dress(self) -> None:
        task = self.task
        task.flows_face = self
        task.run = functools.wraps(self.body)(functools.partial(TaskFace._run, self))
        task.retry = functools.wraps(task.retry)(_Redirected(task, task.retry, _retry))
        task.replace = functools.wraps(task.replace)(_Redirected(task, task.replace, _replace))
        theirs = symbol_by_name(task.Request)
        task.Request = type("RunRequest", (RunRequest, theirs), {})
        for name, at in HOOKS.items():
            if task_has_custom(task, name):
                setattr(task, name, _with_arguments(task, getattr(task, name), at))
        if task_has_custom(task, "before_start"):
            task.flows_before_start = task.before_start
            task.before_start = functools.wraps(task.before_start)(functools.partial(TaskFace._before_start, self))

    def is_run(self, headers: Mapping[str, Any] | None) -> bool:
        """True for a message of a run, or that becomes one here."""
        return self.holds or bool((headers or {}).get(HEADER))

    def _is_turn(self) -> bool:
        request = self.task.request
        if request.called_directly or turn_of(self.task) is not None:
            return False
        return self.holds or getattr(request, HEADER, None) is not None

    def _before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        # Of a run it is told when its body begins, with the run's arguments.
        if not self._is_turn():
            self.task.flows_before_start(task_id, args, kwargs)

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        if not self._is_turn():
            return self.body(*args, **kwargs)
        request = self.task.request
        try:
            return take_delivery(self._host, self.task, args, kwargs, self.event_of)
        except StoreError as error:
            if getattr(request, HEADER, None) or request.is_eager or not self.task.acks_late:
                raise
            # No run has its arguments yet: they are in this message alone.
            time.sleep(PAUSE)
            raise Reject(f"the store is away: {error}", requeue=True) from error
        except Ignore:
            asked = vars(request).get(ASKED)
            if asked is not None:
                self._told_retry(request, asked)
            raise

    def _told_retry(self, request: Any, asked: Retry) -> None:
        signals.task_retry.send(sender=self.task, request=request, reason=asked, einfo=None)
        if task_has_custom(self.task, "on_retry"):
            self.task.on_retry(asked.exc, request.id, request.args, request.kwargs, None)


class _Redirected:
    """A word of the task that means the run while a turn of it is at work, and Celery's own otherwise."""

    def __init__(self, task: Any, theirs: Callable[..., Any], ours: Callable[..., Any]) -> None:
        self._task = task
        self._theirs = theirs
        self._ours = ours

    def __call__(self, *args: Any, **options: Any) -> Any:
        chosen = self._theirs if turn_of(self._task) is None else functools.partial(self._ours, self._task)
        return chosen(*args, **options)


def _retry(
    task: Any, args: Any = None, kwargs: Any = None, exc: Any = None, throw: Any = True, **options: Any
) -> Retry:
    """Celery's signature; a body that only asks, with `throw=False`, is called again all the same."""
    asked = ask_again(task, args=args, kwargs=kwargs, exc=exc, **options)
    if throw:
        raise asked
    return asked


def _replace(task: Any, sig: Any) -> None:
    raise StepMisuse(
        f"{task.name}: self.replace is not for a run, whose id is its own. Call the other task in a step, or send it "
        "and return."
    )


def _with_arguments(task: Any, hook: Callable[..., Any], at: int) -> Callable[..., Any]:
    """The hook with the run's arguments: its messages carry none."""

    @functools.wraps(hook)
    def told(*given: Any, **named: Any) -> Any:
        request = task.request
        if HEADER in vars(request) or ASKED in vars(request):
            given = (*given[:at], request.args, request.kwargs, *given[at + 2 :])
        return hook(*given, **named)

    return told


def _turn(task: Task, word: str) -> Any:
    ctx = turn_of(task)
    if ctx is None:
        raise TypeError(
            f"self.{word} of the task {task.name!r} is there while it runs as a run: start it with "
            f"{task.name.rpartition('.')[2]}.delay(...), or in a test with flows_tester.start(...)."
        )
    return ctx
