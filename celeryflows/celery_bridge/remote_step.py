"""Existing tasks of runs as Celery messages: packed, sent, revoked, asked after; or called in place."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from celery import Celery, states
from celery.app.task import Context, Task
from celery.exceptions import ChordError, OperationalError
from kombu.utils import json

from celeryflows.celery_bridge.answers import error_text, linked, result_text
from celeryflows.celery_bridge.broker import queue_of
from celeryflows.celery_bridge.canvas import read_canvas
from celeryflows.celery_bridge.dispatcher import together
from celeryflows.celery_bridge.quick_connection import quick_connection
from celeryflows.celery_bridge.result_writer import ResultWriter
from celeryflows.celery_bridge.whereabouts import Whereabouts
from celeryflows.errors import NotStorable
from celeryflows.model.canvases import Node
from celeryflows.model.remote_tasks import Outcome, Parcel, SentTask, TaskCall

logger = logging.getLogger("celeryflows")

BROKER_TROUBLE = (OperationalError, OSError)


class Host(Protocol):
    """What the tasks of an app's runs need of its binding."""

    app: Celery

    def makes_runs(self, task: str) -> bool: ...
    def answered(self, task_id: str, outcome: Outcome) -> bool: ...


class CeleryTasks:
    """Sends tasks to their own queues, with callbacks that answer."""

    in_place = False

    def __init__(self, host: Host, producer: Callable[[], AbstractContextManager[Any]] | None = None) -> None:
        self._host = host
        self._app = host.app
        self._producer = producer or host.app.producer_or_acquire
        self._results = ResultWriter(host.app)
        self._whereabouts = Whereabouts(host.app)

    def read(self, id: str, signature: Any) -> Node:
        """The signature or canvas as a plan. Raises TypeError, with what to give, for anything else."""
        if isinstance(signature, Task):
            short = signature.name.rpartition(".")[2]
            raise TypeError(f"step {id!r} was given the task {short}: give its signature, {short}.s(...)")
        if not isinstance(signature, Mapping) or not isinstance(signature.get("task"), str):
            raise TypeError(f"step {id!r} takes a Celery signature, such as task.s(...), got {signature!r:.80}")
        return read_canvas(signature, self._app)

    def pack(self, call: TaskCall) -> Parcel:
        """The call as text, and its queue. Raises NotStorable, or TypeError for arguments that the task cannot take."""
        task = self._app.tasks.get(call.name)
        if task is not None and task.typing:
            task.__header__(*call.args, **call.kwargs)
        words = {"task": call.name, "args": call.args, "kwargs": call.kwargs, "options": call.options}
        try:
            text = str(json.dumps(words))
        except (TypeError, ValueError) as error:
            raise NotStorable(f"the arguments of task {call.name!r} cannot be sent as JSON: {error}") from None
        return Parcel(text, self._queue(call, task))

    def _queue(self, call: TaskCall, task: Any) -> str:
        own = {} if task is None else task._get_exec_options()
        options = {**own, **call.options}
        name = options.get("route_name") or call.name
        try:
            route = self._app.amqp.router.route(options, name, call.args, call.kwargs, task_type=task)
        except Exception as error:
            raise NotStorable(f"task {call.name!r} has no route: {error}") from None
        queue = route.get("queue")
        return str(getattr(queue, "name", queue) or route.get("routing_key") or "")

    def send(self, tasks: Sequence[SentTask]) -> None:
        """One message for each; what the broker does not take is sent by recovery."""
        try:
            with self._producer() as producer, together(producer, len(tasks)):
                for task in tasks:
                    self._send(task, producer)
        except BROKER_TROUBLE as error:
            logger.warning("the broker takes no messages (%s); the tasks are kept and sent when it does", error)
        except Exception:
            logger.exception("tasks were not sent; they are kept and sent again")

    def _send(self, sent: SentTask, producer: Any) -> None:
        words = json.loads(sent.text)
        name, options = words["task"], dict(words["options"])
        task = self._app.tasks.get(name)
        reply_to = queue_of(self._app, sent.delivery)
        options |= linked(options, sent.id, reply_to)
        options |= {"task_id": sent.id, "producer": producer, "retry": False, "add_to_parent": False}
        if not self._host.makes_runs(name):
            # Else each send subscribes to the result, over a connection that may hang for minutes. The header rules.
            default = self._app.conf.task_ignore_result if task is None else task.ignore_result
            ignored = bool(options.get("ignore_result", default))
            options |= {"headers": {**(options.get("headers") or {}), "ignore_result": ignored}, "ignore_result": True}
        try:
            if task is None:
                self._app.send_task(name, words["args"], words["kwargs"], **options)
            else:
                task.apply_async(words["args"], words["kwargs"], **options)
        except BROKER_TROUBLE:
            raise
        except Exception as error:
            # Such as a base class of the user's that refuses: sending it again cannot help.
            logger.exception("the task %s[%s] cannot be sent", name, sent.id)
            self._host.answered(sent.id, Outcome(error=error_text(error)))

    def call(self, task: SentTask) -> str:
        """Call it here, with its own retries."""
        words = json.loads(task.text)
        known = self._app.tasks.get(words["task"])
        if known is None:
            raise LookupError(
                f"The task {words['task']!r} is not known to this app {self._app.main!r}: its code runs elsewhere. "
                f"Give the step a stub: steps={{{task.key!r}: ...}}"
            )
        passed = {key: words["options"][key] for key in ("link", "link_error") if key in words["options"]}
        result = known.apply(words["args"], words["kwargs"], task_id=task.id, throw=False, **passed)
        if result.state != states.SUCCESS:
            raise result.result if isinstance(result.result, Exception) else RuntimeError(f"ended as {result.state}")
        return result_text(result.result, known.name)

    def revoke(self, task_ids: Sequence[str]) -> None:
        """Tell all workers; those that are not there do not hear it."""
        try:
            with quick_connection(self._app) as connection:
                self._app.control.revoke(list(task_ids), connection=connection)
        except Exception as error:
            logger.warning("%d tasks were not revoked, they end unheard: %s", len(task_ids), error)

    def call_errbacks(self, call: TaskCall, task_id: str, told: str) -> None:
        """As Celery does it for a chord whose header has failed."""
        delivery = {"is_eager": self.in_place}
        request = Context({"id": task_id, "errbacks": list(call.options["link_error"]), "delivery_info": delivery})
        try:
            self._app.backend._call_task_errbacks(request, ChordError(told), None)
        except Exception:
            logger.exception("the errbacks of task %s[%s] were not called", call.name, task_id)

    def outcome(self, task_id: str) -> Outcome | None:
        """Ask the result backend, which gives up soon."""
        meta = self._results.read(task_id)
        if meta is None or meta["status"] not in states.READY_STATES:
            return None
        if meta["status"] == states.SUCCESS:
            try:
                return Outcome(value=result_text(meta["result"], task_id))
            except NotStorable as error:
                return Outcome(error=error_text(error))
        return Outcome(error=error_text(meta["result"], meta.get("traceback")))

    def missing(self, tasks: Sequence[SentTask]) -> set[str]:
        """Ask queues and workers. A run that sleeps is with nobody, and not lost."""
        return self._whereabouts.missing([one for one in tasks if not self._is_a_run(one)])

    def _is_a_run(self, task: SentTask) -> bool:
        asleep = (self._results.read(task.id) or {}).get("status") == "SUSPENDED"
        return asleep or self._host.makes_runs(json.loads(task.text)["task"])


class TasksInPlace(CeleryTasks):
    """There is no worker: a test kit, or eager mode."""

    in_place = True
