"""A message of an existing task in a worker: losing its process does not end its run, its hard time limit does."""

import logging
from typing import Any

from billiard.einfo import ExceptionWithTraceback
from celery import signals
from celery.exceptions import TimeLimitExceeded, WorkerLostError
from celery.worker import state
from celery.worker.state import task_ready

from celeryflows.celery_bridge.flow_request import FlowRequest

logger = logging.getLogger("celeryflows")


class RunRequest(FlowRequest):
    """Celery's request for what is no run. A durable task's is that of a flow."""

    @property
    def _is_run(self) -> bool:
        return bool(self.task.flows_face.is_run(self._request_dict))

    def on_timeout(self, soft: Any, timeout: float) -> None:
        """The hard limit fails a plain task's run; a durable one's goes on, as a flow's does."""
        if soft or not self._is_run:
            super(FlowRequest, self).on_timeout(soft, timeout)
            return
        super().on_timeout(soft, timeout)
        if not self.task.flows_face.is_durable and not state.should_terminate:
            self._fail(TimeLimitExceeded(timeout))

    def _fail(self, error: Exception) -> None:
        self.task.app.flows_binding.fail(self.id, error)
        self.task.on_failure(error, self.id, self.args, self.kwargs, None)
        signals.task_failure.send(
            sender=self.task,
            task_id=self.id,
            exception=error,
            args=self.args,
            kwargs=self.kwargs,
            traceback=None,
            einfo=None,
        )

    def on_failure(self, exc_info: Any, *args: Any, **options: Any) -> Any:
        """A run whose process died is queued again, whatever acks the task asks for."""
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):
            error = error.exc
        if not self._is_run:
            return super(FlowRequest, self).on_failure(exc_info, *args, **options)
        if isinstance(error, WorkerLostError | SystemExit | KeyboardInterrupt) and not self.task.acks_late:
            task_ready(self)
            logger.error("%s[%s] lost its process; its run is queued again", self.name, self.id)
            return None
        return super().on_failure(exc_info, *args, **options)
