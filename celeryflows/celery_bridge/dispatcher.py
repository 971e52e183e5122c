"""Messages to workers: one a run, carrying its id and nothing else that matters. Nothing here raises."""

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

from celery import Celery, states
from kombu.pools import ProducerPool
from kombu.utils import json

from celeryflows.celery_bridge.bundling import TASK, Bundling
from celeryflows.celery_bridge.postman import Batch, Patience, Postman
from celeryflows.celery_bridge.quick_connection import QuickProducer, quick_connection
from celeryflows.celery_bridge.result_writer import ResultWriter, request_of
from celeryflows.codec import is_sealed
from celeryflows.engine.runtime import LetGo
from celeryflows.model.runs import FIRST, Delivery

logger = logging.getLogger("celeryflows")

HEADER = "flows"
OF_THE_RUN = frozenset(
    {"link", "link_error", "chord", "group_id", "group_index", "chain", "reply_to", "correlation_id", "shadow"}
)
# What Celery would make of them for each message.
NO_ARGUMENTS = {"argsrepr": "()", "kwargsrepr": "{}"}
REST = 1.0
POOL = 10


class CeleryDispatcher:
    """Sends runs as Celery messages of the flow's task, with the run's id as task id; a branch's
    has an id of its own, and both in the header. `bundling` says what goes together."""

    def __init__(
        self,
        app: Celery,
        sent_with: Callable[[str], Mapping[str, Any]],
        task_of: Callable[[str], str],
        bundling: Bundling,
    ) -> None:
        self._app = app
        self._sent_with = sent_with
        self._task_of = task_of
        self._closed_until = 0.0
        self._producers: Any = None
        self._pid = 0
        self._results = ResultWriter(app)
        self._postman = Postman()
        self._bundling = bundling

    def send_runs(self, deliveries: Sequence[Delivery]) -> None:
        """One message for each, or for several runs of a flow; after a failure the broker gets a second's rest, and
        recovery sends what was left."""
        if time.monotonic() < self._closed_until:
            return
        try:
            with self.producer() as producer, together(producer, len(deliveries)):
                for runs in self._bundling.sorted(deliveries):
                    if len(runs) == 1:
                        self._send(runs[0], producer)
                    else:
                        self._send_bundle(runs, producer)
        except Exception as error:
            self._closed_until = time.monotonic() + REST
            logger.warning("the broker takes no messages (%s); the runs are kept and sent when it does", error)

    def postpone(self, let_go: LetGo) -> Batch:
        """Messages that are sent once the first of their work takes longer than a moment."""
        return Batch(self.send_runs, let_go, self._postman, Patience())

    def behind(self, patience: Patience, let_go: LetGo) -> Batch:
        """Messages of runs that came together, which are sent once one before them takes its time."""
        return Batch(self.send_runs, let_go, self._postman, patience)

    def run_suspended(self, run_id: str) -> bool:
        """SUSPENDED in the result backend, so that AsyncResult tells it."""
        return self._results.write(run_id, lambda backend: backend.store_result(run_id, None, "SUSPENDED"))

    def run_continues(self, run_id: str, message: str | None) -> str | None:
        """SUSPENDED for who asks for the first of a line of runs; the last one's end is told under that id too."""
        options = json.loads(message) if message else {}
        headers = options.get("headers") or {}
        if FIRST in headers:
            return message
        self.run_suspended(run_id)
        return str(json.dumps({**options, "headers": {**headers, FIRST: run_id}}))

    def run_cancelled(self, run_id: str, reason: str, message: str | None = None) -> None:
        """REVOKED in the result backend, so that `.get()` never hangs, nor a chord over the run."""
        request = request_of(run_id, message)
        self._results.write(run_id, lambda backend: backend.mark_as_revoked(run_id, reason, request))
        if first := first_of(message):
            self._results.write(first, lambda backend: backend.mark_as_revoked(first, reason))

    def run_failed(self, run_id: str, error: Exception, message: str | None = None) -> None:
        """FAILURE in the result backend, of a run that recovery gave up."""
        request = request_of(run_id, message)
        self._results.write(run_id, lambda backend: backend.mark_as_failure(run_id, error, request=request))
        if first := first_of(message):
            self.first_ended(first, error, states.FAILURE)

    def first_ended(self, first: str, result: Any, state: str) -> None:
        """The end of a line of runs, for who asks for its first one. Callbacks belong to the last one."""
        self._results.write(first, lambda backend: backend.store_result(first, result, state))

    def terminate(self, task_id: str) -> None:
        """Tell all workers: the process that is at work on the task gets SIGTERM."""
        try:
            with quick_connection(self._app) as connection:
                self._app.control.revoke(task_id, terminate=True, connection=connection)
        except Exception as error:
            logger.warning("the task %s was not ended, it stops at its next step: %s", task_id, error)

    def producer(self) -> Any:
        """A producer of this process's own, which gives up within seconds; for a block."""
        if self._producers is None or self._pid != os.getpid():
            # A pool's child must not write into its parent's socket.
            self._pid = os.getpid()
            connections = quick_connection(self._app).Pool(limit=POOL)
            self._producers = ProducerPool(connections, limit=POOL, Producer=QuickProducer)
        return self._producers.acquire(block=True, timeout=5)

    def _send(self, delivery: Delivery, producer: Any) -> None:
        options = {**NO_ARGUMENTS, **self._sent_with(delivery.flow)}
        if is_sealed(delivery.message):
            logger.error("run %s is not sent from here: its options are encrypted under another key", delivery.run_id)
            return
        if delivery.message:
            options |= json.loads(delivery.message)
        name = self._task_of(delivery.flow)
        task = self._app.tasks.get(name)
        ignored = bool(options.get("ignore_result", getattr(task, "ignore_result", False)))
        word: Any = 1
        if delivery.branch:
            # Its end is nobody's result: no callback, no chord, no chain may hear of it.
            options = {key: value for key, value in options.items() if key not in OF_THE_RUN}
            ignored, word = True, [delivery.run_id, delivery.branch]
        headers = {**(options.get("headers") or {}), HEADER: word, "ignore_result": ignored}
        options |= {"task_id": delivery.task_id, "producer": producer, "retry": False, "headers": headers}
        # Else each send subscribes to the run's result, over a connection that may hang for minutes. The header rules.
        options["ignore_result"] = True
        if not getattr(task, "is_flow", False):
            # Of a plain task its checks would miss the arguments.
            self._app.send_task(name, (), {}, **options)
        else:
            cast(Any, type(task).__mro__[1]).apply_async(task, (), {}, **options)

    def _send_bundle(self, runs: Sequence[Delivery], producer: Any) -> None:
        flow = runs[0].flow
        task = self._app.tasks[self._task_of(flow)]
        options = {**task._get_exec_options(), **self._sent_with(flow), "producer": producer, "retry": False}
        # By the flow's own route. Nobody asks for the bundle's result.
        options |= {"route_name": task.name, "task_type": task, "ignore_result": True, "kwargsrepr": "{}"}
        options |= {"argsrepr": f"({flow!r}, {len(runs)} runs)"}
        ids = [one.run_id for one in runs]
        self._app.send_task(TASK, (task.name, ids, bool(task.ignore_result)), {}, **options)


def first_of(message: str | None) -> str | None:
    """The first run of the line that a run with these options belongs to."""
    headers = (json.loads(message) if message else {}).get("headers") or {}
    found: str | None = headers.get(FIRST)
    return found


def together(producer: Any, count: int) -> AbstractContextManager[Any]:
    """Many messages in few round trips, where kombu's transport can."""
    return producer.batch() if count > 1 else nullcontext()
