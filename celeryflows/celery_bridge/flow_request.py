"""A run's message inside a worker: losing its process is a lost turn, which recovery repairs, not the run's end."""

import logging
from typing import Any

from billiard.einfo import ExceptionWithTraceback
from celery.exceptions import TimeLimitExceeded
from celery.worker.request import Request
from celery.worker.state import task_ready

logger = logging.getLogger("celeryflows")


class FlowRequest(Request):
    """Celery's request, but for the hard time limit: Celery would tell the caller FAILURE, while the run goes on."""

    def on_timeout(self, soft: Any, timeout: float) -> None:
        """The soft limit as in Celery; at the hard one the process is killed, and its run queued again."""
        if soft:
            super().on_timeout(soft, timeout)
        else:
            self._lose()

    def on_failure(self, exc_info: Any, *args: Any, **options: Any) -> Any:
        """As in Celery; the pool reports the hard limit here too, before or after."""
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):
            error = error.exc
        if isinstance(error, TimeLimitExceeded):
            return self._lose()
        return super().on_failure(exc_info, *args, **options)

    def _lose(self) -> None:
        task_ready(self)
        if not self.acknowledged:
            logger.error("Hard time limit exceeded for %s[%s]", self.name, self.id)
            self.acknowledge()
