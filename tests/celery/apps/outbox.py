"""Flows that are started by what is sent in a transaction: `celery -A tests.celery.apps.outbox`."""

from typing import Any

from tests.celery.apps.sheet import Sheet

sheet = Sheet("outbox")


@sheet.flow(trigger="outbox/sent")
def ship(ctx: Any) -> Any:
    """By an event."""
    return [ctx.event.data["by"], ctx.event.data["n"]]


@sheet.flow()
def pack(ctx: Any) -> Any:
    """By a call."""
    return [ctx.event.data["by"], ctx.event.data["n"]]


app = sheet.worker_app()
