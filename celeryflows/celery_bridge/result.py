"""The AsyncResult of a run."""

from typing import Any

from celery.backends.base import DisabledBackend
from celery.result import AsyncResult

from celeryflows.errors import ConfigurationError


class RunResult(AsyncResult):
    """Celery's AsyncResult; its id is the run's. `.revoke()` cancels the run."""

    def __init__(self, run_id: str, cancel: Any, **options: Any) -> None:
        super().__init__(run_id, **options)
        self._cancel_run = cancel

    def get(self, *args: Any, **options: Any) -> Any:
        """As in Celery. Raises ConfigurationError without a result backend, and names what works without."""
        if isinstance(self.backend, DisabledBackend):
            raise ConfigurationError(
                f"This app has no result backend. Use flows.run({self.id!r}).get(timeout=...), which needs none, or "
                "set result_backend."
            )
        return super().get(*args, **options)

    def revoke(self, *args: Any, **options: Any) -> None:
        """Cancel the run; `terminate=True` also ends the Celery task at work on it."""
        self._cancel_run(self.id, "revoked")
        if options.get("terminate"):
            super().revoke(*args, **options)
