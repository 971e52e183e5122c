"""`from celeryflows import Celery`: Celery's own class, with its Flows made."""

from collections.abc import Callable
from typing import Any

import celery


class Celery(celery.Celery):
    """`celery.Celery` with its Flows made: `app.flows`, and `app.flow` beside `app.task`. Nothing else is changed."""

    # What makes the Flows of an app stands above this room, and tells itself here.
    make_flows: Callable[[Any], Any]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        type(self).make_flows(self)

    def flow(self, fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Declare a durable flow, as `Flows.flow` does."""
        return self.flows.flow(fn, **options)
